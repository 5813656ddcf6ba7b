//! Prunes a model and writes, beside the result, a model of the original's shapes that must compute
//! the same.
//!
//! `prune_zoo MODEL RATIO NORM PRUNED BESIDE [consumers|makers|dead]`: the original with zeros in the
//! weights that read the removed channels (the default); with zeros in what makes them; or, half of
//! the channels of each group being made dead at random before, that model itself, of which NORM has
//! to choose the dead ones. BESIDE may be `-`. Set SIMPLIFY to simplify first, LIST to list the
//! groups, APPROXIMATE to cut what statistics are taken over.

use std::path::Path;
use std::time::Instant;

use lapidary::onnx;
use lapidary::prune::{Analysis, Importance, PruneOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, ratio, norm, pruned, beside, rest @ ..] = &args[..] else {
        return Err(
            "usage: prune_zoo MODEL RATIO NORM PRUNED BESIDE [consumers|makers|dead]".into()
        );
    };
    let kind = rest.first().map_or("consumers", String::as_str);
    let norm = match norm.as_str() {
        "random" => Importance::Random,
        "l1" => Importance::L1,
        _ => Importance::L2,
    };
    let options =
        PruneOptions { ratio: ratio.parse()?, importance: Some(norm), ..PruneOptions::default() };
    let approximate = std::env::var_os("APPROXIMATE").is_some();
    let mut model = onnx::load(Path::new(model))?;
    if std::env::var_os("SIMPLIFY").is_some() {
        lapidary::pass::simplify(&mut model, &mut lapidary::pass::Cx::default())?;
    }
    if kind == "dead" {
        let half = PruneOptions {
            ratio: 0.5,
            importance: Some(Importance::Random),
            ..PruneOptions::default()
        };
        let analysis = Analysis::with(&model, approximate);
        model = analysis.zeroed(&analysis.choose(&half)?);
    }
    let start = Instant::now();
    let analysis = Analysis::with(&model, approximate);
    let found = start.elapsed();
    let choice = analysis.choose(&options)?;
    let chosen = start.elapsed();
    let cut = analysis.cut(&choice)?;
    let all = start.elapsed();
    onnx::save(&cut, Path::new(pruned), onnx::SaveOptions::default())?;
    if beside != "-" {
        let other = match kind {
            "dead" => model.clone(),
            "makers" => analysis.zeroed(&choice),
            _ => analysis.masked(&choice),
        };
        onnx::save(&other, Path::new(beside), onnx::SaveOptions::default())?;
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
