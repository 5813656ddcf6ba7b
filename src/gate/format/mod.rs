//! Results of a gate as other programs read them.

mod github;
mod junit;
mod markdown;
mod sarif;

pub use github::annotations;
pub use junit::junit;
pub use markdown::markdown;
pub use sarif::sarif;
