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

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Cut and polish ONNX models: simplify, prune, quantize and verify.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Optimize(Box<optimize::Args>),
    Simplify(Box<simplify::Args>),
    Edit(Box<edit::Args>),
    Extract(Box<extract::Args>),
    Convert(Box<convert::Args>),
    Prune(Box<prune::Args>),
    Quantize(Box<quantize::Args>),
    Sensitivity(Box<sensitivity::Args>),
    Share(Box<share::Args>),
    Check(check::Args),
    Verify(verify::Args),
    Evaluate(evaluate::Args),
    Inspect(inspect::Args),
    Diff(diff::Args),
    Gate(Box<gate::Args>),
    Trtexec(trtexec::Args),
    Report(report::Args),
    Print(print::Args),
    Explain(explain::Args),
    Completions(completions::Args),
}

/// What a command that ran to its end found: exit code 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    GoalMissed,
}

/// Parses the arguments, runs the command and prints the chain of an error.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let (_, given) = matches.subcommand().expect("invariant: clap requires a subcommand");
    let result = match cli.command {
        Command::Optimize(args) => optimize::run(&args, given),
        Command::Simplify(args) => simplify::run(&args),
        Command::Edit(args) => edit::run(&args),
        Command::Extract(args) => extract::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Prune(args) => prune::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Sensitivity(args) => sensitivity::run(&args),
        Command::Share(args) => share::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Trtexec(args) => trtexec::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Print(args) => print::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => completions::run(&args),
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
