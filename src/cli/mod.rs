//! The command line: arguments, tables, exit codes. One file per subcommand.

mod args;
mod change;
mod check;
mod completions;
mod convert;
mod diff;
mod edit;
mod evaluate;
mod explain;
mod extract;
mod gate;
mod inspect;
mod optimize;
mod output;
mod pictures;
mod precision;
mod print;
mod progress;
mod prune;
mod quantize;
mod report;
mod sensitivity;
mod share;
mod simplify;
mod trtexec;
mod verify;

use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches};

/// The subcommands, in the order of the help. Each is called as its module, which holds the
/// arguments; a function runs them.
macro_rules! subcommands {
    ($($module:ident: $run:expr,)*) => {
        /// The command line. Of the subcommands only `wanted` is there, or all when none is called
        /// so: to build them all takes as long as to simplify a small model.
        fn command(wanted: Option<&str>) -> clap::Command {
            let known = [$(stringify!($module)),*].iter().any(|name| wanted == Some(*name));
            let command = clap::Command::new("lapidary")
                .version(env!("CARGO_PKG_VERSION"))
                .about("Cut and polish ONNX models: simplify, prune, quantize and verify")
                .subcommand_required(true)
                .arg_required_else_help(true);
            $(let command = match !known || wanted == Some(stringify!($module)) {
                true => {
                    let subcommand = clap::Command::new(stringify!($module));
                    command.subcommand($module::Args::augment_args(subcommand))
                }
                false => command,
            };)*
            command
        }

        fn run(matches: &ArgMatches) -> anyhow::Result<Outcome> {
            match matches.subcommand() {
                $(Some((stringify!($module), given)) => {
                    let run: fn(&$module::Args, &ArgMatches) -> anyhow::Result<Outcome> = $run;
                    let args = $module::Args::from_arg_matches(given);
                    run(&args.unwrap_or_else(|e| e.exit()), given)
                })*
                _ => unreachable!("invariant: clap requires a subcommand"),
            }
        }
    };
}

subcommands! {
    optimize: |args, given| optimize::run(args, given),
    simplify: |args, _| simplify::run(args),
    edit: |args, _| edit::run(args),
    extract: |args, _| extract::run(args),
    convert: |args, _| convert::run(args),
    prune: |args, _| prune::run(args),
    quantize: |args, _| quantize::run(args),
    sensitivity: |args, _| sensitivity::run(args),
    share: |args, _| share::run(args),
    check: |args, _| check::run(args),
    verify: |args, _| verify::run(args),
    evaluate: |args, _| evaluate::run(args),
    inspect: |args, _| inspect::run(args),
    diff: |args, _| diff::run(args),
    gate: |args, _| gate::run(args),
    trtexec: |args, _| trtexec::run(args),
    report: |args, _| report::run(args),
    print: |args, _| print::run(args),
    explain: |args, _| explain::run(args),
    completions: |args, _| completions::run(args),
}

/// What a command that ran to its end found: exit code 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    GoalMissed,
}

/// Parses the arguments, runs the command and prints the chain of an error.
pub fn main() -> ExitCode {
    let wanted = std::env::args_os().nth(1);
    let matches = command(wanted.as_deref().and_then(|w| w.to_str())).get_matches();
    match run(&matches) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::GoalMissed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
