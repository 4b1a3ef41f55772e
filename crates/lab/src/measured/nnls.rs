//! Least squares with unknowns that are not negative.
//!
//! The active-set method of Lawson and Hanson, "Solving Least Squares Problems" (1974), chapter 23, on the
//! normal equations. Its solutions are sparse: of many possible classes of pages a few are left.

/// Of a row: coefficients, what their sum should be, and how much it matters.
pub(super) struct Row {
    pub(super) of: Vec<f64>,
    pub(super) value: f64,
    pub(super) weight: f64,
}

impl Row {
    /// How far `found` is off, squared and weighted.
    pub(super) fn off(&self, found: &[f64]) -> f64 {
        let sum: f64 = self.of.iter().zip(found).map(|(a, x)| a * x).sum();
        self.weight * (sum - self.value).powi(2)
    }
}

/// Relative to the diagonal: what keeps columns that are nearly the same apart.
const RIDGE: f64 = 1e-11;
/// Below this share of its greatest possible value a gradient is none.
const NONE: f64 = 1e-7;

struct Normal {
    matrix: Vec<Vec<f64>>,
    right: Vec<f64>,
}

/// The unknowns, all at least zero, that come nearest to the rows.
pub(super) fn solve(rows: &[Row]) -> Vec<f64> {
    let Some(count) = rows.first().map(|row| row.of.len()) else { return Vec::new() };
    let normal = Normal::new(rows, count);
    let scale = rows.iter().map(|row| row.weight * row.value * row.value).sum::<f64>().sqrt();
    let mut found = vec![0.0; count];
    let mut free: Vec<usize> = Vec::new();
    // Columns that rounding threw out at once, until something else changes.
    let mut barred: Vec<usize> = Vec::new();
    // Every step frees a column; more than a few times each means that rounding goes in circles.
    for _ in 0..4 * count {
        let Some(steepest) = normal.steepest(&found, &free, &barred, NONE * scale) else { break };
        free.push(steepest);
        normal.settle(&mut found, &mut free);
        if free.contains(&steepest) {
            barred.clear();
        } else {
            barred.push(steepest);
        }
    }
    found
}

impl Normal {
    fn new(rows: &[Row], count: usize) -> Self {
        let mut normal = Self { matrix: vec![vec![0.0; count]; count], right: vec![0.0; count] };
        for row in rows {
            for (i, &a) in row.of.iter().enumerate().filter(|(_, a)| **a != 0.0) {
                normal.right[i] += row.weight * a * row.value;
                for (entry, &b) in normal.matrix[i].iter_mut().zip(&row.of) {
                    *entry += row.weight * a * b;
                }
            }
        }
        normal
    }

    /// The column that is held at zero and would help most, relative to its length.
    fn steepest(&self, found: &[f64], free: &[usize], barred: &[usize], least: f64) -> Option<usize> {
        let gradient = |i: usize| {
            let length = self.matrix[i][i].sqrt();
            let pull = self.right[i] - free.iter().map(|&j| self.matrix[i][j] * found[j]).sum::<f64>();
            if length > 0.0 { pull / length } else { 0.0 }
        };
        let held =
            (0..found.len()).filter(|i| !free.contains(i) && !barred.contains(i)).map(|i| (gradient(i), i));
        held.filter(|&(pull, _)| pull > least)
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .map(|best| best.1)
    }

    /// Solves for the free columns, holding those that would be negative.
    fn settle(&self, found: &mut [f64], free: &mut Vec<usize>) {
        while !free.is_empty() {
            let wanted = self.solve(free);
            if wanted.iter().all(|&value| value > 0.0) {
                for (&i, value) in free.iter().zip(wanted) {
                    found[i] = value;
                }
                return;
            }
            let step = free.iter().zip(&wanted).filter(|(_, value)| **value <= 0.0);
            let step = step.map(|(&i, &value)| found[i] / (found[i] - value)).fold(1.0, f64::min);
            let step = if step.is_finite() { step } else { 0.0 };
            for (&i, value) in free.iter().zip(&wanted) {
                found[i] += step * (value - found[i]);
            }
            free.retain(|&i| {
                let keep = found[i] > 1e-12;
                if !keep {
                    found[i] = 0.0;
                }
                keep
            });
        }
    }

    /// Gauss's elimination with pivoting, of these columns alone.
    fn solve(&self, columns: &[usize]) -> Vec<f64> {
        let count = columns.len();
        let ridge = columns.iter().map(|&i| self.matrix[i][i]).fold(0.0, f64::max) * RIDGE;
        let mut table: Vec<Vec<f64>> = columns
            .iter()
            .map(|&i| columns.iter().map(|&j| self.matrix[i][j]).chain([self.right[i]]).collect())
            .collect();
        for (index, row) in table.iter_mut().enumerate() {
            row[index] += ridge;
        }
        for column in 0..count {
            let pivot = (column..count)
                .max_by(|&a, &b| table[a][column].abs().total_cmp(&table[b][column].abs()))
                .unwrap_or(column);
            table.swap(column, pivot);
            let (above, below) = table.split_at_mut(column + 1);
            let row = &above[column];
            for other in below {
                let factor = other[column] / row[column];
                for (entry, value) in other[column..].iter_mut().zip(&row[column..]) {
                    *entry -= factor * value;
                }
            }
        }
        let mut found = vec![0.0; count];
        for row in (0..count).rev() {
            let known: f64 = (row + 1..count).map(|column| table[row][column] * found[column]).sum();
            found[row] = (table[row][count] - known) / table[row][row];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(matrix: &[&[f64]], values: &[f64]) -> Vec<Row> {
        matrix.iter().zip(values).map(|(of, &value)| Row { of: of.to_vec(), value, weight: 1.0 }).collect()
    }

    #[test]
    fn what_can_be_met_is_met() {
        let found = solve(&rows(&[&[1.0, 2.0], &[3.0, 1.0], &[0.0, 1.0]], &[5.0, 5.0, 2.0]));
        assert!((found[0] - 1.0).abs() < 1e-6 && (found[1] - 2.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn an_unknown_that_would_be_negative_is_zero_and_the_other_is_the_best_without_it() {
        // Without the bound: (2, -1).
        let found = solve(&rows(&[&[1.0, 1.0], &[1.0, 2.0]], &[1.0, 0.0]));
        assert!((found[0] - 0.5).abs() < 1e-6, "{found:?}");
        assert!(found[1].abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn a_row_that_matters_more_is_met_better() {
        let mut rows = rows(&[&[1.0], &[1.0]], &[0.0, 1.0]);
        rows[1].weight = 9.0;
        assert!((solve(&rows)[0] - 0.9).abs() < 1e-6);
    }

    #[test]
    fn a_mixture_of_exponentials_is_found_again() {
        let rates: Vec<f64> = (0..30).map(|index| 0.01 * 1.4_f64.powi(index)).collect();
        let truth = |time: f64| 3000.0 * -(-rates[8] * time).exp_m1() + 500.0 * -(-rates[22] * time).exp_m1();
        let rows: Vec<Row> = (0..20)
            .map(|index| {
                let time = 0.05 * 1.5_f64.powi(index);
                let of = rates.iter().map(|rate| -(-rate * time).exp_m1()).collect();
                Row { of, value: truth(time), weight: 1.0 }
            })
            .collect();
        let found = solve(&rows);
        for row in &rows {
            let sum: f64 = row.of.iter().zip(&found).map(|(a, x)| a * x).sum();
            assert!((sum / row.value - 1.0).abs() < 1e-4, "{sum} {}", row.value);
        }
        let slow: f64 = found[6..=10].iter().sum();
        assert!((slow / 3000.0 - 1.0).abs() < 0.02, "{found:?}");
    }
}
