//! Workflow commands of GitHub Actions, which show up as annotations.

use crate::gate::{Check, Status};

/// An `::error` for every budget that is exceeded.
pub fn annotations(checks: &[Check]) -> String {
    let exceeded = checks.iter().filter(|c| c.status == Status::Exceeded);
    let line = |c: &Check| {
        format!(
            "::error file={},title={}::{}\n",
            property(&c.model),
            property(&format!("lapidary gate: {}", c.budget)),
            data(&c.message())
        )
    };
    exceeded.map(line).collect()
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
