//! Tests of the pure core. They are one binary, because each binary takes time to link.

#[cfg(test)]
mod attachments;
#[cfg(test)]
mod deciding;
#[cfg(test)]
mod enveloping;
#[cfg(test)]
mod folding;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_ids;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod parsing;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod support;
