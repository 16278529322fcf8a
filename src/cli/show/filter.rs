//! `--filter KEY=VALUE`, given several times: values of one key are alternatives, keys all have to hold.
//!
//! Labels are the exception, as with Docker: each of them has to be there.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::time::parse_moment;
use crate::cli::Mistake;

/// Parsed filters.
#[derive(Debug, Default)]
pub struct Filters {
    values: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Reads the flags' values; `keys` are those that mean something here.
    pub fn parse(texts: &[String], keys: &[&str]) -> Result<Self, Mistake> {
        let mut filters = Self::default();
        for text in texts {
            let expected = || format!("it takes {}=…", keys.join("=…, "));
            let (key, value) = text.split_once('=').ok_or_else(|| Mistake::value("--filter", text, expected()))?;
            // `label!=x` is split behind the exclamation mark.
            let key = key.trim().to_ascii_lowercase();
            if !keys.contains(&key.as_str()) {
                return Err(Mistake::value("--filter", text, expected()));
            }
            filters.values.entry(key).or_default().push(value.trim().to_owned());
        }
        Ok(filters)
    }

    /// The values of a key; none where it was not given.
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing was asked for, or one of the values of `key` fits.
    pub fn accept(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Whether the labels are as `label` and `label!` ask for.
    pub fn accept_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wish: &String| match wish.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wish),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }
}

/// What `until` says: only what is older than this moment.
pub fn age_limit(filters: &Filters) -> Result<Option<Timestamp>, Mistake> {
    match filters.values("until") {
        [] => Ok(None),
        [text] => parse_moment("--filter", text, Timestamp::now()).map(Some),
        _ => Err(Mistake::usage("--filter until=… can be given only once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Filters, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Filters::parse(&texts, &["name", "label", "label!"]).map_err(|error| error.to_string())
    }

    #[test]
    fn one_of_a_keys_values_and_all_labels() {
        let filters = parse(&["name=a", "name=b", "label=x", "label=y=1", "label!=z"]).expect("filters");
        assert!(filters.accept("name", |name| name == "b") && !filters.accept("name", |name| name == "c"));
        assert!(filters.accept("other", |_| false));
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert!(filters.accept_labels(&labels(&[("x", ""), ("y", "1")])));
        assert!(!filters.accept_labels(&labels(&[("x", ""), ("y", "2")])));
        assert!(!filters.accept_labels(&labels(&[("x", ""), ("y", "1"), ("z", "")])));
    }

    #[test]
    fn what_means_nothing_is_an_error() {
        assert!(parse(&["name"]).expect_err("no value").contains("name=…, label=…"));
        assert!(parse(&["colour=red"]).is_err());
    }
}
