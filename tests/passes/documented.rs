//! `docs/passes.md` lists every pass as it is and names none that does not exist.

use std::collections::BTreeSet;

use lapidary::pass::{self, Semantics};

fn page() -> &'static str {
    include_str!("../../docs/passes.md")
}

#[test]
fn the_page_lists_every_pass_in_order() {
    let rows: Vec<String> = pass::all_passes()
        .map(|p| {
            let numbers = match p.semantics {
                Semantics::Exact => "exact",
                Semantics::Reassociates => "reassociates",
                Semantics::Lossy => "lossy",
            };
            format!("| `{}` | {numbers} | {} |", p.name, p.summary)
        })
        .collect();
    let (_, table) = page().split_once("|---|---|---|\n").expect("a table");
    let listed: Vec<&str> = table.lines().take_while(|l| l.starts_with('|')).collect();
    assert_eq!(listed.join("\n"), rows.join("\n"), "docs/passes.md should hold the right side");
}

/// Words in backticks that begin as names of passes do.
#[test]
fn the_page_names_no_pass_that_does_not_exist() {
    let verbs: BTreeSet<&str> =
        pass::all_passes().filter_map(|p| p.name.split('-').next()).collect();
    let named = page().split('`').skip(1).step_by(2);
    let looks_like_one = |n: &&str| {
        n.split_once('-').is_some_and(|(verb, _)| verbs.contains(verb)) && !n.contains(' ')
    };
    let unknown: Vec<&str> =
        named.filter(looks_like_one).filter(|n| pass::find_pass(n).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
