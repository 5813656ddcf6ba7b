//! What commands find out, as data that serializes.

mod bind;
mod cost;
pub mod inspect;
pub mod liveness;
pub mod numbers;
