//! `lapidary explain`.

use super::Outcome;
use super::output::say;
use crate::pass;

/// Print the page of a pass, or the list of all passes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the pass; without it, all passes are listed
    pass: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let Some(name) = &args.pass else {
        let mut table = super::output::table(&["pass", "numbers", "what it does"]);
        for info in pass::all_passes() {
            table.add_row([info.name, promise(info.semantics), info.summary]);
        }
        say!("{table}");
        return Ok(Outcome::Done);
    };
    let Some(info) = pass::find_pass(name) else {
        let names: Vec<&str> = pass::all_passes().map(|p| p.name).collect();
        anyhow::bail!("no pass is called {name:?}; the passes are: {}", names.join(", "));
    };
    say!("{}: {}\nnumbers: {}\n", info.name, info.summary, promise(info.semantics));
    print!("{}", info.page());
    Ok(Outcome::Done)
}

fn promise(semantics: pass::Semantics) -> &'static str {
    match semantics {
        pass::Semantics::Exact => "exact",
        pass::Semantics::Reassociates => "rounding of reordered arithmetic",
        pass::Semantics::Lossy => "change",
    }
}
