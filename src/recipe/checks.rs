//! Checks between and after the steps of a recipe.

use super::RecipeError;
use super::run::Runner;
use crate::data::{self, Source};
use crate::evaluate::{self, Evaluation};
use crate::ir::Model;
use crate::pass::Semantics;
use crate::report::inspect::fed_inputs;
use crate::verify::{self, Verdict, Verification};

impl Runner<'_> {
    /// Samples for verification: the data that was given, else seeded random inputs.
    fn samples(&self, model: &Model) -> Result<Box<dyn Source>, RecipeError> {
        Ok(data::open(&self.recipe.data, model, self.recipe.verify.samples)?)
    }

    /// After steps that keep the numbers: disagreement is an error.
    pub(super) fn verify_exact(
        &mut self,
        before: &Model,
        after: &Model,
        step: Option<&'static str>,
    ) -> Result<(), RecipeError> {
        let Some(step) = step else { return Ok(()) };
        let verification = self.compare(before, after, Semantics::Reassociates)?;
        disagreement(step, &verification)
    }

    /// After an edit that leaves inputs and outputs as they are, but for dims: what both models
    /// take must give the same.
    pub(super) fn verify_edit(&mut self, before: &Model, after: &Model) -> Result<(), RecipeError> {
        if !verify::interface(before, after).is_empty() {
            return Ok(());
        }
        let open = |m: &Model| fed_inputs(&m.graph).any(|v| m.graph.value(v).sizes().is_none());
        let source = self.samples(if open(before) { after } else { before })?;
        let n = self.recipe.verify.samples;
        let engine = self.engine();
        let exact = Semantics::Reassociates;
        let v = verify::compare(before, after, engine, source.as_ref(), n, exact, &|_| {});
        disagreement("edit", &v)
    }

    /// Original against result; strict unless a step was lossy.
    pub(super) fn verify_all(
        &mut self,
        original: &Model,
        result: &Model,
        lossy: bool,
        last: Option<&'static str>,
    ) -> Result<Verification, RecipeError> {
        let semantics = if lossy { Semantics::Lossy } else { Semantics::Reassociates };
        let verification = self.compare(original, result, semantics)?;
        disagreement(last.unwrap_or("edit"), &verification)?;
        Ok(verification)
    }

    fn compare(
        &mut self,
        before: &Model,
        after: &Model,
        semantics: Semantics,
    ) -> Result<Verification, RecipeError> {
        let source = self.samples(before)?;
        let n = self.recipe.verify.samples;
        let all = source.len().min(n);
        let progress = |done| (self.progress)("verify", done, all);
        let engine = self.engine();
        Ok(verify::compare(before, after, engine, source.as_ref(), n, semantics, &progress))
    }

    pub(super) fn evaluate(
        &mut self,
        original: &Model,
        result: &Model,
    ) -> Result<Option<(Evaluation, Evaluation)>, RecipeError> {
        Ok(self.accuracy(original)?.zip(self.accuracy(result)?))
    }

    /// Accuracy on the labelled samples, where there are some.
    pub(super) fn accuracy(&self, model: &Model) -> Result<Option<Evaluation>, RecipeError> {
        let Some(options) = &self.recipe.evaluate else { return Ok(None) };
        let source = data::open(options, model, 0)?;
        let progress = |done| (self.progress)("evaluate", done, source.len());
        Ok(Some(evaluate::evaluate(model, self.engine(), source.as_ref(), &progress)?))
    }
}

fn disagreement(step: &'static str, v: &Verification) -> Result<(), RecipeError> {
    match &v.verdict {
        Verdict::Disagree(why) => Err(RecipeError::Disagrees { step, why: why.clone() }),
        _ => Ok(()),
    }
}
