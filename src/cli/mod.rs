//! The command line: arguments, tables, exit codes. One file per subcommand.

mod evaluate;
mod inspect;
mod print;
mod progress;
mod simplify;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Cut and polish ONNX models: simplify, prune, quantize and verify.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Evaluate(evaluate::Args),
    Inspect(inspect::Args),
    Print(print::Args),
    Simplify(simplify::Args),
    Verify(verify::Args),
}

/// What a command that ran to its end found: exit code 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    GoalMissed,
}

/// Parses the arguments, runs the command and prints the chain of an error.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Print(args) => print::run(&args),
        Command::Simplify(args) => simplify::run(&args),
        Command::Verify(args) => verify::run(&args),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::GoalMissed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
