//! `lapidary completions`.

use clap_complete::Shell;

use super::{Outcome, command};

/// Print a completion script for a shell.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    clap_complete::generate(args.shell, &mut command(None), "lapidary", &mut std::io::stdout());
    Ok(Outcome::Done)
}
