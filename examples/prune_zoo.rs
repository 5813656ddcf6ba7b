//! Prunes a model and writes, beside the result, the original with the consumers of the same
//! channels zeroed: the two must compute the same.
//!
//! `prune_zoo MODEL RATIO NORM PRUNED MASKED`

use std::path::Path;
use std::time::Instant;

use lapidary::onnx;
use lapidary::prune::{Analysis, Importance, PruneOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, ratio, norm, pruned, masked] = &args[..] else {
        return Err("usage: prune_zoo MODEL RATIO NORM PRUNED MASKED".into());
    };
    let norm = match norm.as_str() {
        "random" => Importance::Random,
        "l1" => Importance::L1,
        _ => Importance::L2,
    };
    let options =
        PruneOptions { ratio: ratio.parse()?, importance: Some(norm), ..PruneOptions::default() };
    let mut model = onnx::load(Path::new(model))?;
    if std::env::var_os("SIMPLIFY").is_some() {
        lapidary::pass::simplify(&mut model, &mut lapidary::pass::Cx::default())?;
    }
    let start = Instant::now();
    let analysis = Analysis::of(&model);
    let found = start.elapsed();
    let choice = analysis.choose(&options)?;
    let chosen = start.elapsed();
    let cut = analysis.cut(&choice)?;
    let all = start.elapsed();
    onnx::save(&cut, Path::new(pruned), onnx::SaveOptions::default())?;
    if masked != "-" {
        onnx::save(&analysis.masked(&choice), Path::new(masked), onnx::SaveOptions::default())?;
    }
    let groups = analysis.report(&choice);
    let cuttable = groups.iter().filter(|g| g.pinned.is_none()).count();
    println!(
        "{} groups, {cuttable} cut, {} pinned; {} -> {} channels; group {:.1?}, rank {:.1?}, cut {:.1?}",
        groups.len(),
        groups.len() - cuttable,
        groups.iter().map(|g| g.before).sum::<usize>(),
        groups.iter().map(|g| g.after).sum::<usize>(),
        found,
        chosen - found,
        all - chosen,
    );
    if std::env::var_os("LIST").is_some() {
        for g in &groups {
            let why = g.pinned.as_deref().unwrap_or("");
            println!(
                "  {} {} -> {} ({} members) {why}",
                g.name,
                g.before,
                g.after,
                g.members.len()
            );
        }
    }
    Ok(())
}
