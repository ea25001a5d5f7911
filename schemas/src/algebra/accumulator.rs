//! Accumulators that read rows or states and return states or values. Each delegates to the accumulator of the
//! planned aggregate.
//!
//! Invariant: states are passed out and in as one struct, whose fields have exactly the declared state types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray, new_null_array};
use arrow::compute::{cast, filter, prep_null_mask_filter};
use arrow::datatypes::{DataType, Fields};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use parking_lot::Mutex;

/// The input of an accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Input {
    /// The aggregate's own arguments.
    Rows,
    /// One struct column of states.
    States,
}

/// The output of an accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Output {
    /// One struct of states.
    States,
    /// The aggregate's value.
    Values,
}

/// Returns the state columns inside the single struct column that a form with states as input receives.
fn unpack(values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let [states] = values else {
        return internal_err!("states come as one struct column, not {}", values.len());
    };
    let Some(states) = states.as_struct_opt() else {
        return internal_err!("states come as a struct, not {}", states.data_type());
    };
    if states.null_count() > 0 {
        return exec_err!("a state is null");
    }
    Ok(states.columns().to_vec())
}

/// A filter that leaves out what is NULL.
fn no_nulls(filter: &BooleanArray) -> BooleanArray {
    match filter.null_count() {
        0 => filter.clone(),
        _ => prep_null_mask_filter(filter),
    }
}

/// Returns the state columns as one struct column of the declared types.
fn pack(states: Vec<ArrayRef>, fields: &Fields) -> Result<ArrayRef> {
    if states.len() != fields.len() {
        return internal_err!("{} state columns, {} declared", states.len(), fields.len());
    }
    let columns =
        states
            .into_iter()
            .zip(fields)
            .map(|(column, field)| {
                if column.data_type() == field.data_type() { Ok(column) } else { Ok(cast(&column, field.data_type())?) }
            })
            .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, None)?))
}

/// Gives the groups a row of NULLs that is left out.
fn leave_out(groups: &mut dyn GroupsAccumulator, arguments: &[DataType], total_num_groups: usize) -> Result<()> {
    if total_num_groups == 0 {
        return Ok(());
    }
    let row: Vec<ArrayRef> = arguments.iter().map(|data_type| new_null_array(data_type, 1)).collect();
    groups.update_batch(&row, &[0], Some(&BooleanArray::from(vec![false])), total_num_groups)
}

/// A groups accumulator that delegates to the groups accumulator of the planned aggregate.
pub(super) struct StateGroupsAccumulator {
    groups: Box<dyn GroupsAccumulator>,
    state: Fields,
    input: Input,
    output: Output,
    /// The types of the aggregate's arguments and of its ordering keys.
    arguments: Vec<DataType>,
}

impl StateGroupsAccumulator {
    pub(super) fn new(
        groups: Box<dyn GroupsAccumulator>,
        state: Fields,
        input: Input,
        output: Output,
        arguments: Vec<DataType>,
    ) -> Self {
        Self { groups, state, input, output, arguments }
    }
}

impl GroupsAccumulator for StateGroupsAccumulator {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        match self.input {
            Input::Rows => self.groups.update_batch(values, group_indices, opt_filter, total_num_groups),
            Input::States => match opt_filter {
                None => self.groups.merge_batch(&unpack(values)?, group_indices, total_num_groups),
                Some(keep) => {
                    let keep = &no_nulls(keep);
                    // The engine takes all groups for ones with a value until a row was left out.
                    leave_out(self.groups.as_mut(), &self.arguments, total_num_groups)?;
                    let states = values.iter().map(|states| Ok(filter(states, keep)?)).collect::<Result<Vec<_>>>()?;
                    let kept = group_indices.iter().zip(keep.values()).filter(|(_, keep)| *keep);
                    let kept: Vec<usize> = kept.map(|(group, _)| *group).collect();
                    self.groups.merge_batch(&unpack(&states)?, &kept, total_num_groups)
                }
            },
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        match self.output {
            Output::Values => self.groups.evaluate(emit_to),
            Output::States => pack(self.groups.state(emit_to)?, &self.state),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.groups.state(emit_to)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups.merge_batch(values, group_indices, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        match self.input {
            Input::Rows => self.groups.convert_to_state(values, opt_filter),
            Input::States if opt_filter.is_some() => internal_err!("states are never filtered"),
            Input::States => unpack(values),
        }
    }

    fn size(&self) -> usize {
        self.groups.size()
    }
}

/// An accumulator that delegates to a groups accumulator with a single group.
pub(super) struct OneGroupAccumulator {
    /// Accumulators must be `Sync`, and groups accumulators are not. The lock is never contended.
    groups: Mutex<Box<dyn GroupsAccumulator>>,
    state: Fields,
    input: Input,
    output: Output,
    /// The types of the aggregate's arguments and of its ordering keys.
    arguments: Vec<DataType>,
    touched: bool,
    /// The group index of every row. Its length is the row count of the largest batch so far.
    zeros: Vec<usize>,
}

impl OneGroupAccumulator {
    pub(super) fn new(
        groups: Box<dyn GroupsAccumulator>,
        state: Fields,
        input: Input,
        output: Output,
        arguments: Vec<DataType>,
    ) -> Self {
        Self { groups: Mutex::new(groups), state, input, output, arguments, touched: false, zeros: Vec::new() }
    }

    fn merge(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |column| column.len());
        if rows == 0 {
            return Ok(());
        }
        self.touched = true;
        self.zeros.resize(self.zeros.len().max(rows), 0);
        self.groups.get_mut().merge_batch(states, &self.zeros[..rows], 1)
    }

    /// Creates the single group if no batch has done so: an aggregate over no rows has a value too.
    fn touch(&mut self) -> Result<()> {
        if self.touched {
            return Ok(());
        }
        self.touched = true;
        leave_out(self.groups.get_mut().as_mut(), &self.arguments, 1)
    }
}

impl std::fmt::Debug for OneGroupAccumulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneGroupAccumulator")
            .field("input", &self.input)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl Accumulator for OneGroupAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match self.input {
            Input::States => self.merge(&unpack(values)?),
            Input::Rows => {
                let rows = values.first().map_or(0, |column| column.len());
                if rows == 0 {
                    return Ok(());
                }
                self.touched = true;
                self.zeros.resize(self.zeros.len().max(rows), 0);
                self.groups.get_mut().update_batch(values, &self.zeros[..rows], None, 1)
            }
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.touch()?;
        let one = match self.output {
            Output::Values => self.groups.get_mut().evaluate(EmitTo::All)?,
            Output::States => pack(self.groups.get_mut().state(EmitTo::All)?, &self.state)?,
        };
        ScalarValue::try_from_array(&one, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.touch()?;
        self.groups.get_mut().state(EmitTo::All)?.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.merge(states)
    }

    fn size(&self) -> usize {
        self.groups.lock().size() + self.zeros.capacity() * size_of::<usize>()
    }
}

/// An accumulator that delegates to the plain accumulator of the planned aggregate. Each group has one.
#[derive(Debug)]
pub(super) struct StateAccumulator {
    value: Box<dyn Accumulator>,
    state: Fields,
    input: Input,
    output: Output,
}

impl StateAccumulator {
    pub(super) fn new(value: Box<dyn Accumulator>, state: Fields, input: Input, output: Output) -> Self {
        Self { value, state, input, output }
    }
}

impl Accumulator for StateAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match self.input {
            Input::Rows => self.value.update_batch(values),
            Input::States => self.value.merge_batch(&unpack(values)?),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.output {
            Output::Values => self.value.evaluate(),
            Output::States => {
                let columns = self.value.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
                ScalarValue::try_from_array(&pack(columns, &self.state)?, 0)
            }
        }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.value.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.value.merge_batch(states)
    }

    fn size(&self) -> usize {
        self.value.size()
    }
}
