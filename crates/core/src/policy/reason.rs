//! Why a policy decided as it did: the rule, what it compared and by how much it held or failed.
//!
//! Made on every decision, so it is cheap (no allocation) and turned into words only when printed.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::progress::Progress;
use crate::units::{Bandwidth, ByteCount, CpuShare, PageRate, Pages, Share};

/// A number with its unit, as it stood in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Quantity {
    /// Pages.
    Pages(Pages),
    /// Bytes.
    Bytes(ByteCount),
    /// Bytes a second.
    Bandwidth(Bandwidth),
    /// Pages a second.
    PageRate(PageRate),
    /// A length of time.
    Duration(#[serde(with = "crate::units::duration")] Duration),
    /// A number of rounds, polls, retries.
    Count(u64),
    /// A share of CPU taken away.
    CpuShare(CpuShare),
    /// A share.
    Share(Share),
    /// Not known yet.
    Unknown,
}

impl Quantity {
    /// The plain number, for margins; none if it is not known.
    pub fn as_f64(self) -> Option<f64> {
        Some(match self {
            Self::Pages(x) => x.0 as f64,
            Self::Bytes(x) => x.0 as f64,
            Self::Bandwidth(x) => x.bytes_per_second() as f64,
            Self::PageRate(x) => x.per_second(),
            Self::Duration(x) => x.as_secs_f64(),
            Self::Count(x) => x as f64,
            Self::CpuShare(x) => x.as_f64(),
            Self::Share(x) => x.as_f64(),
            Self::Unknown => return None,
        })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages(x) => write!(f, "{} pages", x.0),
            Self::Bytes(x) => write!(f, "{}", x.human()),
            Self::Bandwidth(x) => write!(f, "{}", x.human()),
            Self::PageRate(x) => {
                whole(f, x.per_second())?;
                f.write_str(" pages/s")
            }
            Self::Duration(x) => write!(f, "{}", crate::units::duration::human(*x)),
            Self::Count(x) => write!(f, "{x}"),
            Self::CpuShare(x) => {
                whole(f, x.as_f64() * 100.0)?;
                f.write_str(" %")
            }
            Self::Share(x) => write!(f, "{:.1} %", x.as_f64() * 100.0),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Prints a number without its fraction, as `{:.0}` does. By the million that would take most of a reason's time: it
/// finds the digits of a fraction that it then leaves out.
fn whole(f: &mut fmt::Formatter<'_>, number: f64) -> fmt::Result {
    // Whole numbers have no sign at nothing, and are exact up to here.
    if number.is_sign_positive() && number < 9e15 {
        write!(f, "{}", number.round_ties_even() as u64)
    } else {
        write!(f, "{number:.0}")
    }
}

/// How the two sides of a rule stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
    /// `==`
    Equal,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::Equal => "=",
        })
    }
}

/// A number that went into a rule, with its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input<'a> {
    /// What it is.
    pub name: &'a str,
    /// Its value.
    pub value: Quantity,
}

/// The rule that decided: `left relation right` is true.
///
/// Prints as `pending 35.1 MiB >= limit 19.2 MiB (by 83 %; bandwidth 64 MiB/s, downtime-limit 300 ms)`.
#[derive(Clone, Debug)]
pub struct Reason {
    names: Names,
    relation: Relation,
    /// Left and right.
    sides: [Quantity; 2],
    /// From what the right side follows, the first places first.
    inputs: [Option<Quantity>; 2],
}

/// What the numbers of a rule are called: left, right and the inputs; of an input that there is not, nothing.
///
/// All in one place, so that a reason that nobody reads is forgotten at once: in a simulation by the million hardly
/// any is read.
#[derive(Clone, Debug)]
enum Names {
    /// As they stand in the program.
    Known([&'static str; 4]),
    /// As they were read.
    Read(Box<[String; 4]>),
}

impl Reason {
    /// Of what nobody gave a reason for.
    pub(crate) const NONE: Self =
        Self::new(("reason", Quantity::Unknown), Relation::Equal, ("none", Quantity::Unknown));

    /// `left relation right`.
    #[inline]
    pub const fn new(
        left: (&'static str, Quantity),
        relation: Relation,
        right: (&'static str, Quantity),
    ) -> Self {
        Self {
            names: Names::Known([left.0, right.0, "", ""]),
            relation,
            sides: [left.1, right.1],
            inputs: [None, None],
        }
    }

    /// The same, naming one more number that went into it. A third is ignored.
    #[inline]
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Quantity) -> Self {
        if let Some(free) = self.inputs.iter().position(Option::is_none) {
            self.inputs[free] = Some(value);
            match &mut self.names {
                Names::Known(names) => names[2 + free] = name,
                Names::Read(names) => name.clone_into(&mut names[2 + free]),
            }
        }
        self
    }

    /// What was compared.
    pub fn left(&self) -> Input<'_> {
        Input { name: self.name(0), value: self.sides[0] }
    }

    /// How it stands to the right.
    pub const fn relation(&self) -> Relation {
        self.relation
    }

    /// What it was compared with.
    pub fn right(&self) -> Input<'_> {
        Input { name: self.name(1), value: self.sides[1] }
    }

    /// From what the right side follows, at most two.
    pub fn inputs(&self) -> impl Iterator<Item = Input<'_>> {
        let input =
            |index: usize| self.inputs[index].map(|value| Input { name: self.name(2 + index), value });
        (0..2).filter_map(input)
    }

    fn name(&self, index: usize) -> &str {
        match &self.names {
            Names::Known(names) => names[index],
            Names::Read(names) => &names[index],
        }
    }

    /// How many pages more or fewer would have changed what was compared; none if it was not about pages.
    #[inline(always)]
    pub fn pages_apart(&self, progress: &Progress) -> Option<f64> {
        match (self.sides[0], self.sides[1]) {
            (Quantity::Count(_), _) => None,
            (Quantity::Pages(left), Quantity::Pages(right)) => Some(left.0.abs_diff(right.0) as f64),
            _ => self.other_pages_apart(progress),
        }
    }

    /// The same where neither rounds nor pages were compared.
    #[inline(never)]
    fn other_pages_apart(&self, progress: &Progress) -> Option<f64> {
        let page = progress.page_size.bytes().as_f64();
        let pages = match (self.sides[0], self.sides[1]) {
            (Quantity::Bytes(left), Quantity::Bytes(right)) => left.0.abs_diff(right.0) as f64 / page,
            // What was dirtied, by the time that it took.
            (Quantity::Bandwidth(left), Quantity::Bandwidth(right)) => {
                let seconds = progress.dirtied.as_f64() / progress.dirty_rate?.per_second();
                (left.as_f64() - right.as_f64()) / page * seconds
            }
            (Quantity::Duration(left), Quantity::Duration(right)) if self.name(0).contains("downtime") => {
                let rate = progress.bandwidth?.as_f64();
                (left.as_secs_f64() - right.as_secs_f64()) * rate / page
            }
            _ => return None,
        };
        Some(pages.abs())
    }

    /// By which share of the right side the rule held; none if one side is unknown or the right is zero.
    pub fn margin(&self) -> Option<f64> {
        let (left, right) = (self.sides[0].as_f64()?, self.sides[1].as_f64()?);
        (right != 0.0).then(|| ((left - right) / right).abs())
    }
}

impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        let names = (0..4).all(|index| self.name(index) == other.name(index));
        names && (self.relation, self.sides, self.inputs) == (other.relation, other.sides, other.inputs)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = (self.left(), self.right());
        f.write_str(left.name)?;
        write!(f, " {} {} ", left.value, self.relation)?;
        f.write_str(right.name)?;
        write!(f, " {}", right.value)?;
        let mut separator = " (";
        if self.relation != Relation::Equal
            && let Some(margin) = self.margin()
        {
            f.write_str(separator)?;
            f.write_str("by ")?;
            whole(f, margin * 100.0)?;
            f.write_str(" %")?;
            separator = "; ";
        }
        for input in self.inputs() {
            write!(f, "{separator}{} {}", input.name, input.value)?;
            separator = ", ";
        }
        if separator != " (" {
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// A reason as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Reason", rename_all = "kebab-case")]
struct Stored<'a> {
    left: StoredInput<'a>,
    relation: Relation,
    right: StoredInput<'a>,
    #[serde(skip_serializing_if = "none_given", default)]
    inputs: [Option<StoredInput<'a>>; 2],
}

/// A number as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Input", rename_all = "kebab-case")]
struct StoredInput<'a> {
    name: Cow<'a, str>,
    value: Quantity,
}

impl<'a> From<Input<'a>> for StoredInput<'a> {
    fn from(Input { name, value }: Input<'a>) -> Self {
        Self { name: Cow::Borrowed(name), value }
    }
}

fn none_given(inputs: &[Option<StoredInput<'_>>; 2]) -> bool {
    inputs.iter().all(Option::is_none)
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut inputs = self.inputs().map(StoredInput::from);
        Stored {
            left: self.left().into(),
            relation: self.relation,
            right: self.right().into(),
            inputs: [inputs.next(), inputs.next()],
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { left, relation, right, inputs } = Stored::deserialize(deserializer)?;
        // They stand in the first places, wherever they stood.
        let mut inputs = inputs.into_iter().flatten();
        let (first, second) = (inputs.next(), inputs.next());
        let values = [first.as_ref().map(|input| input.value), second.as_ref().map(|input| input.value)];
        let name =
            |input: Option<StoredInput<'_>>| input.map_or_else(String::new, |input| input.name.into_owned());
        let sides = [left.value, right.value];
        let names = [name(Some(left)), name(Some(right)), name(first), name(second)];
        Ok(Self { names: Names::Read(Box::new(names)), relation, sides, inputs: values })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Whole(f64);

    impl fmt::Display for Whole {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            whole(f, self.0)
        }
    }

    proptest! {
        /// Any number; halves too, which go to the even side.
        #[test]
        fn a_number_without_its_fraction_is_printed_as_everywhere(
            number in prop_oneof![
                prop::num::f64::ANY,
                (0_u32..1000).prop_map(|halves| f64::from(halves) / 2.0),
                0.0..1e17,
                Just(-0.0),
            ],
        ) {
            prop_assert_eq!(Whole(number).to_string(), format!("{number:.0}"));
        }
    }
}
