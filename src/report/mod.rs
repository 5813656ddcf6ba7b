//! What commands find out, as data that serializes, and pictures of it.

mod bind;
mod bitmap;
pub mod chart;
mod cost;
pub mod dot;
pub mod groups;
pub mod inspect;
pub mod liveness;
pub mod numbers;
pub mod page;
pub mod ranges;
pub mod scene;
mod stored;
pub mod view;
pub mod weights;
pub mod zip;
