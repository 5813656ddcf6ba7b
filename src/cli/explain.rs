//! `lapidary explain`.

use super::Outcome;
use super::output::say;
use crate::pass;
use crate::quantize::placement;
use crate::target::rules;

/// Print the page of a pass or rule, or the list of all passes or rules.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of a pass, id of a rule of `quantize` or `check`, or `rules`; without it, all passes are
    /// listed
    name: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let Some(name) = &args.name else {
        let mut table = super::output::table(&["pass", "numbers", "what it does"]);
        for info in pass::all_passes() {
            table.add_row([info.name, promise(info.semantics), info.summary]);
        }
        say!("{table}");
        return Ok(Outcome::Done);
    };
    if name == "rules" {
        list_rules();
        return Ok(Outcome::Done);
    }
    if explain_rule(name) {
        return Ok(Outcome::Done);
    }
    let Some(info) = pass::find_pass(name) else {
        let names: Vec<&str> = pass::all_passes().map(|p| p.name).collect();
        anyhow::bail!(
            "no pass or rule is called {name:?}; `lapidary explain rules` lists rules, the passes are: {}",
            names.join(", ")
        );
    };
    say!("{}: {}\nnumbers: {}\n", info.name, info.summary, promise(info.semantics));
    print!("{}", info.page());
    Ok(Outcome::Done)
}

fn list_rules() {
    let mut table = super::output::table(&["rule", "on", "what it does"]);
    for r in placement::RULES {
        table.add_row([r.id, r.on.name(), r.summary]);
    }
    say!("placement of pairs, switched with `quantize --rules -ID,+ID`:\n{table}");
    let mut table = super::output::table(&["rule", "what it asks"]);
    for r in rules::RULES {
        table.add_row([r.id, r.title]);
    }
    say!("\nwhat `check` looks at:\n{table}");
}

/// Prints the page of a rule; tells whether there is one.
fn explain_rule(id: &str) -> bool {
    let (placement, check) = (placement::find(id), rules::find(id));
    if let Some(r) = placement {
        say!(
            "{}: {}\non: {}\nwithout it (--rules -{}): {}",
            r.id,
            r.summary,
            r.on.name(),
            r.id,
            r.without
        );
    }
    if let Some(r) = check {
        say!("{}: {}\n\n{}", r.id, r.title, r.page);
    }
    placement.is_some() || check.is_some()
}

fn promise(semantics: pass::Semantics) -> &'static str {
    match semantics {
        pass::Semantics::Exact => "exact",
        pass::Semantics::Reassociates => "rounding of reordered arithmetic",
        pass::Semantics::Lossy => "change",
    }
}
