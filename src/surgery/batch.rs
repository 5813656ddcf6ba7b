//! Opening the batch.

use super::SurgeryError;
use crate::ir::Model;

/// Opens the first axis of all inputs under one name.
pub(super) fn open(
    _m: &mut Model,
    _name: &str,
    _changes: &mut Vec<String>,
) -> Result<(), SurgeryError> {
    Ok(())
}
