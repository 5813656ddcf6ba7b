//! Recurrent layers.

use super::AxisRef::{Operand, Result as Out};
use super::{AxisLink, AxisRef, InferCx, MAX_PAIRS, Place, Refusal, has_weight, len};

/// `LSTM`, `GRU` and `RNN`: the hidden size runs along every gate of weights and biases, twice along
/// the recurrent weight, and along states and results. Both directions lose the same indices.
///
/// # Errors
/// When a weight is not constant or the hidden size is not known.
pub fn recurrent(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let gates = match cx.op().op_type.as_str() {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    if !(1..4).all(|slot| !cx.has(slot) || has_weight(cx, slot)) {
        return Err("its weights are not constant".into());
    }
    let hidden = len(cx, 2, 2).ok_or("its hidden size is not known")?;
    if hidden > MAX_PAIRS / 8 {
        return Err("the axis is too long".into());
    }
    let batch_first = cx.op().int_or("layout", 0) == 1;
    let state = Operand(2, 2);
    let results = [Out(0, 3), Out(1, 2), Out(2, 2)].into_iter().filter(|r| is_there(cx, *r));
    let results: Vec<AxisRef> = results.collect();
    let first = *results.first().ok_or("nothing reads it")?;
    let mut same = vec![state, Operand(5, 2), Operand(6, 2)];
    same.extend(&results);
    same.retain(|r| is_there(cx, *r));
    let gate = |slot, times: usize| {
        let pairs = (0..times * hidden).map(|i| (i as u32, (i % hidden) as u32)).collect();
        AxisLink::Map(Operand(slot, 1), state, pairs)
    };
    let mut links = vec![
        AxisLink::Contract(Operand(0, 2), Operand(1, 2)),
        AxisLink::Same(same),
        AxisLink::Contract(first, state),
        AxisLink::Made(Operand(1, 1)),
        AxisLink::Lengths { of: vec![state], at: Place::Attr("hidden_size") },
    ];
    for (slot, times) in [(1, gates), (2, gates), (3, 2 * gates), (7, 3)] {
        if cx.has(slot) {
            links.push(gate(slot, times));
        }
    }
    links.push(AxisLink::Same(batch(cx, batch_first)));
    Ok(links)
}

fn batch(cx: &InferCx, first: bool) -> Vec<AxisRef> {
    let places = if first {
        [
            Operand(0, 0),
            Operand(4, 0),
            Operand(5, 0),
            Operand(6, 0),
            Out(0, 0),
            Out(1, 0),
            Out(2, 0),
        ]
    } else {
        [
            Operand(0, 1),
            Operand(4, 0),
            Operand(5, 1),
            Operand(6, 1),
            Out(0, 2),
            Out(1, 1),
            Out(2, 1),
        ]
    };
    places.into_iter().filter(|r| is_there(cx, *r)).collect()
}

fn is_there(cx: &InferCx, at: AxisRef) -> bool {
    match at {
        Operand(slot, _) => cx.has(slot),
        Out(slot, _) => cx.result(slot).is_some(),
    }
}
