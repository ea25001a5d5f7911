//! One value per group, into which every input of the group is folded: the accumulators of sums and of extremes.
//!
//! Invariant: folding is associative and commutative bit for bit, so a state does not depend on the order of rows or
//! of merges.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// A fold of inputs into states, and of states into results.
pub(super) trait Fold: Debug + Clone + Send + Sync + 'static {
    type Input: ArrowPrimitiveType;
    type State: ArrowPrimitiveType;

    /// The state of one input.
    fn lift(&self, input: <Self::Input as ArrowPrimitiveType>::Native) -> <Self::State as ArrowPrimitiveType>::Native;

    /// The state of the inputs of two states.
    fn join(
        &self,
        one: <Self::State as ArrowPrimitiveType>::Native,
        other: <Self::State as ArrowPrimitiveType>::Native,
    ) -> <Self::State as ArrowPrimitiveType>::Native;

    fn state_type(&self) -> DataType;

    /// The results of states.
    ///
    /// Errors: a state has no result of the aggregate's type.
    fn finish(&self, states: PrimitiveArray<Self::State>) -> Result<ArrayRef>;
}

type StateOf<F> = <<F as Fold>::State as ArrowPrimitiveType>::Native;

fn one_column(columns: &[ArrayRef]) -> Result<&ArrayRef> {
    match columns {
        [column] => Ok(column),
        _ => exec_err!("an aggregate of one argument has {}", columns.len()),
    }
}

/// The accumulator for all groups of a plan.
#[derive(Debug)]
pub(super) struct FoldGroups<F: Fold> {
    fold: F,
    values: Vec<StateOf<F>>,
    /// True for groups with an input that is not null.
    filled: Vec<bool>,
}

impl<F: Fold> FoldGroups<F> {
    pub(super) fn new(fold: F) -> Self {
        Self { fold, values: Vec::new(), filled: Vec::new() }
    }

    fn add(&mut self, group: usize, state: StateOf<F>) {
        let value = &mut self.values[group];
        if std::mem::replace(&mut self.filled[group], true) {
            *value = self.fold.join(*value, state);
        } else {
            *value = state;
        }
    }

    fn grow(&mut self, groups: usize) {
        self.values.resize(groups, StateOf::<F>::default());
        self.filled.resize(groups, false);
    }

    fn emit(&mut self, emit_to: EmitTo) -> PrimitiveArray<F::State> {
        let values = emit_to.take_needed(&mut self.values);
        let filled = emit_to.take_needed(&mut self.filled);
        let nulls = NullBuffer::new(BooleanBuffer::from(filled));
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
        PrimitiveArray::new(ScalarBuffer::from(values), nulls).with_data_type(self.fold.state_type())
    }
}

impl<F: Fold> GroupsAccumulator for FoldGroups<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let inputs = one_column(values)?.as_primitive::<F::Input>();
        if inputs.null_count() == 0 && opt_filter.is_none() {
            for (group, input) in group_indices.iter().zip(inputs.values()) {
                let state = self.fold.lift(*input);
                self.add(*group, state);
            }
            return Ok(());
        }
        for (row, group) in group_indices.iter().enumerate() {
            let kept = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if kept && inputs.is_valid(row) {
                let state = self.fold.lift(inputs.value(row));
                self.add(*group, state);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        let states = one_column(values)?.as_primitive::<F::State>();
        for (row, group) in group_indices.iter().enumerate() {
            if states.is_valid(row) {
                self.add(*group, states.value(row));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let states = self.emit(emit_to);
        self.fold.finish(states)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.emit(emit_to))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let inputs = one_column(values)?.as_primitive::<F::Input>();
        let states: PrimitiveArray<F::State> = (0..inputs.len())
            .map(|row| {
                let kept = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
                (kept && inputs.is_valid(row)).then(|| self.fold.lift(inputs.value(row)))
            })
            .collect();
        Ok(vec![Arc::new(states.with_data_type(self.fold.state_type()))])
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<StateOf<F>>() + self.filled.capacity()
    }
}

/// The accumulator for one group.
#[derive(Debug)]
pub(super) struct FoldOne<F: Fold> {
    fold: F,
    value: Option<StateOf<F>>,
}

impl<F: Fold> FoldOne<F> {
    pub(super) fn new(fold: F) -> Self {
        Self { fold, value: None }
    }

    fn add(&mut self, state: StateOf<F>) {
        self.value = Some(match self.value {
            Some(value) => self.fold.join(value, state),
            None => state,
        });
    }

    fn array(&self) -> PrimitiveArray<F::State> {
        PrimitiveArray::from_iter([self.value]).with_data_type(self.fold.state_type())
    }
}

impl<F: Fold> Accumulator for FoldOne<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let inputs = one_column(values)?.as_primitive::<F::Input>();
        let fold = &self.fold;
        let state = if inputs.null_count() == 0 {
            inputs.values().iter().map(|input| fold.lift(*input)).reduce(|one, other| fold.join(one, other))
        } else {
            inputs.iter().flatten().map(|input| fold.lift(input)).reduce(|one, other| fold.join(one, other))
        };
        if let Some(state) = state {
            self.add(state);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in one_column(states)?.as_primitive::<F::State>().iter().flatten() {
            self.add(state);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.fold.finish(self.array())?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(&self.array(), 0)?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
