//! What the rules decide: pairs, weights, and why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{linear, walk};
use crate::ir::{Graph, OpId, Slot, ValueId};

/// What was decided for one op that holds weights, and by which rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Label of the op.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// It reads a stored weight.
    pub weighted: bool,
    /// It computes on INT8.
    pub quantized: bool,
    /// Id of the rule that decided.
    pub rule: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// A weight to be stored as INT8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightSite {
    /// The op that reads it.
    pub op: OpId,
    /// In which slot.
    pub slot: usize,
    /// The weight.
    pub value: ValueId,
    /// Axis of its scales; `None` for one scale.
    pub axis: Option<usize>,
}

/// Where Q/DQ pairs go.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// For each activation that gets a pair: the slots that read it and the rules that say so.
    pub pairs: BTreeMap<ValueId, BTreeMap<(OpId, usize), &'static str>>,
    /// Weights to be stored as INT8.
    pub weights: Vec<WeightSite>,
    /// One for every linear op, in graph order.
    pub decisions: Vec<Decision>,
    /// One for every other op that holds weights, in graph order.
    pub others: Vec<Decision>,
    /// Sets of activations that share one scale; each has a pair.
    pub scale_groups: Vec<Vec<ValueId>>,
    /// Activations are coded as UINT8, with zero points that fit their ranges.
    pub uint8: bool,
    /// Then, those that are never negative, whatever the data are.
    pub unsigned: BTreeSet<ValueId>,
    /// Activations whose largest magnitude is known without data.
    pub fixed: BTreeMap<ValueId, f32>,
    /// Every reader has a pair of its own.
    pub dedicated: bool,
    pub(super) quantized: BTreeSet<OpId>,
    /// Residual additions that fuse with the quantized op before them.
    pub(super) fused: BTreeSet<OpId>,
    pub(super) same_scale: Vec<(ValueId, ValueId)>,
    /// Ops that read no pair, whatever a rule about arithmetic, pools or Concat says.
    pub(super) float: BTreeSet<OpId>,
    /// For a matrix behind a Transpose, that op's product.
    pub(super) behind: BTreeMap<OpId, OpId>,
}

impl Plan {
    /// Number of linear ops that compute in 8 bits.
    pub(in super::super) fn quantized_count(&self) -> usize {
        self.quantized.len()
    }

    /// Drops pairs of values that `keep` refuses, and the linear ops and attentions that read them.
    pub(in super::super) fn keep_only(&mut self, g: &Graph, keep: &dyn Fn(ValueId) -> bool) {
        let fixed = &self.fixed;
        let refused: Vec<ValueId> =
            self.pairs.keys().copied().filter(|v| !keep(*v) && !fixed.contains_key(v)).collect();
        let whole = |rule: &str| rule.starts_with(['W', 'T']);
        let mut gone = BTreeSet::new();
        for v in refused {
            let Some(readers) = self.pairs.remove(&v) else { continue };
            gone.extend(readers.into_iter().filter(|r| whole(r.1)).map(|((op, _), _)| op));
        }
        let behind = &self.behind;
        self.weights.retain(|s| !gone.contains(behind.get(&s.op).unwrap_or(&s.op)));
        for op in &gone {
            self.quantized.remove(op);
            let label = g.label(*op);
            for d in self.decisions.iter_mut().chain(&mut self.others).filter(|d| d.node == label) {
                d.quantized = false;
                d.reason = "what it reads was not quantized before".into();
            }
        }
        self.pairs.values_mut().for_each(|readers| {
            readers.retain(|(op, _), rule| !(whole(rule) && gone.contains(op)));
        });
        self.pairs.retain(|_, readers| !readers.is_empty());
        let pairs = &self.pairs;
        self.scale_groups.iter_mut().for_each(|s| s.retain(|v| pairs.contains_key(v)));
        self.scale_groups.retain(|s| s.len() > 1);
    }

    /// Of this plan what one linear op reads: its weight and the pair on its input.
    pub(in super::super) fn only(&self, op: OpId) -> Plan {
        let op = self.behind.get(&op).copied().unwrap_or(op);
        let own = |slots: &BTreeMap<(OpId, usize), &'static str>| {
            let mine = slots.iter().filter(|(s, _)| s.0 == op);
            mine.map(|(s, r)| (*s, *r)).collect::<BTreeMap<_, _>>()
        };
        let pairs = self.pairs.iter().map(|(v, slots)| (*v, own(slots)));
        let mine = |s: &&WeightSite| s.op == op || self.behind.get(&s.op) == Some(&op);
        Plan {
            pairs: pairs.filter(|(_, slots)| !slots.is_empty()).collect(),
            weights: self.weights.iter().filter(mine).copied().collect(),
            uint8: self.uint8,
            unsigned: self.unsigned.clone(),
            ..Plan::default()
        }
    }

    /// The linear op computes on INT8.
    pub fn is_quantized(&self, op: OpId) -> bool {
        self.quantized.contains(&op)
    }

    /// The value gets a pair.
    pub fn has_pair(&self, value: ValueId) -> bool {
        self.pairs.contains_key(&value)
    }

    /// Slot `slot` of `op` reads the pair of `value`, unless the op stays float.
    pub(super) fn read(&mut self, value: ValueId, op: OpId, slot: usize, rule: &'static str) {
        if !self.float.contains(&op) {
            self.pairs.entry(value).or_default().entry((op, slot)).or_insert(rule);
        }
    }

    /// Every reader of the value reads its pair, and it is no graph output.
    pub(super) fn all_readers_quantized(&self, g: &Graph, value: ValueId) -> bool {
        let Some(readers) = self.pairs.get(&value) else { return false };
        !g.is_output(value)
            && g.uses(value).iter().all(|(op, slot)| match slot {
                Slot::Operand(i) => readers.contains_key(&(*op, *i as usize)),
                _ => false,
            })
    }

    /// The value comes from a quantized linear op through what fuses with it.
    pub(super) fn follows_quantized(&self, g: &Graph, value: ValueId) -> bool {
        let ends = |op| linear(g, op).is_some() || self.fused.contains(&op);
        walk::backbone(g, value, &ends)
            .is_some_and(|b| self.is_quantized(b.op) || self.fused.contains(&b.op))
    }
}
