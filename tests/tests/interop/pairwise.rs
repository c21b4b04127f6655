//! Few rows that have every pair of values of every two dimensions: most faults of combinations are those of two.

use std::collections::BTreeSet;

use crate::values::{Row, SIZES};

type Values = [usize; SIZES.len()];

/// Two dimensions, each with one of its values.
type Pair = ((usize, usize), (usize, usize));

/// Rows that together have every pair that some possible row has; greedy, so that the same rows come out each time.
pub(crate) fn rows() -> Vec<Row> {
    let possible = possible();
    let mut wanted: BTreeSet<Pair> = possible.iter().flat_map(pairs).collect();
    let mut rows = Vec::new();
    while !wanted.is_empty() {
        let news = |values: &&Values| pairs(values).filter(|pair| wanted.contains(pair)).count();
        // The last of the best: newer releases and servers come last.
        let best = *possible.iter().max_by_key(news).expect("there are possible rows");
        pairs(&best).for_each(|pair| {
            wanted.remove(&pair);
        });
        rows.push(best);
    }
    rows.into_iter().map(Row::of).collect()
}

/// The fewest rows of [`rows`] that a greedy search finds to have every single value.
pub(crate) fn slice() -> Vec<Row> {
    let rows = rows();
    let single = |row: &Row| -> BTreeSet<(usize, usize)> {
        let values = possible().into_iter().find(|values| Row::of(*values) == *row).expect("a row of ours");
        values.into_iter().enumerate().collect()
    };
    let mut wanted: BTreeSet<(usize, usize)> = rows.iter().flat_map(single).collect();
    let mut slice = Vec::new();
    while !wanted.is_empty() {
        let best = rows.iter().max_by_key(|row| single(row).intersection(&wanted).count()).expect("there are rows");
        single(best).iter().for_each(|value| {
            wanted.remove(value);
        });
        slice.push(*best);
    }
    slice
}

fn possible() -> Vec<Values> {
    let mut all: Vec<Values> = vec![[0; SIZES.len()]];
    for (dimension, size) in SIZES.into_iter().enumerate() {
        let with = |values: Values, value| {
            let mut values = values;
            values[dimension] = value;
            values
        };
        all = all.into_iter().flat_map(|values| (0..size).map(move |value| with(values, value))).collect();
    }
    all.retain(|values| Row::of(*values).is_possible());
    all
}

fn pairs(values: &Values) -> impl Iterator<Item = Pair> + use<> {
    let values = *values;
    (0..values.len())
        .flat_map(move |one| (one + 1..values.len()).map(move |other| ((one, values[one]), (other, values[other]))))
}

#[test]
fn few_rows_have_every_possible_pair_and_the_slice_every_value() {
    let rows = rows();
    assert!(rows.len() < 60, "{} rows", rows.len());
    let values = |row: &Row| possible().into_iter().find(|values| Row::of(*values) == *row).unwrap();
    let have: BTreeSet<Pair> = rows.iter().flat_map(|row| pairs(&values(row))).collect();
    let all: BTreeSet<Pair> = possible().iter().flat_map(pairs).collect();
    assert_eq!(have, all);
    let singles: BTreeSet<_> = slice().iter().flat_map(|row| values(row).into_iter().enumerate()).collect();
    assert_eq!(singles.len(), SIZES.iter().sum::<usize>());
    println!("{} rows, {} in the slice", rows.len(), slice().len());
}
