//! Build checks: what is allowed in a Dockerfile and yet probably not meant.
//!
//! The rules, their names and their words are those of BuildKit's newest front end, so that what people know to look
//! up, skip (`# check=skip=Rule`) or make fatal (`# check=error=true`) works here. A rule is reported where it is
//! noticed: [`super::plan`] for FROM, [`super::interpret`] for the rest, here for what concerns the whole file.
//!
//! Source: <https://docs.docker.com/reference/build-checks/>.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::dockerfile::Dockerfile;
use super::dockerfile::instruction::{Instruction, Kind};
use super::dockerfile::lines::Line;

/// Most findings that are kept: a Dockerfile of megabytes has no more to say.
const WARNINGS_MAX: usize = 10_000;
/// Most known names that are compared with an unknown one.
const SUGGESTED_FROM_MAX: usize = 500;
/// Largest edit distance of a name that is suggested instead, exclusive.
const DISTANCE: usize = 3;

/// Makes the table of rules: name and description; `address` is the last part of its page.
macro_rules! rules {
    ($($rule:ident $address:literal $description:literal)+) => {
        /// A rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $description] $rule,)+
        }

        impl Rule {
            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$rule => stringify!($rule),)+ }
            }

            /// What it demands.
            pub fn description(self) -> &'static str {
                match self { $(Self::$rule => $description,)+ }
            }

            /// The page about it.
            pub fn url(self) -> String {
                let page = match self { $(Self::$rule => $address,)+ };
                format!("https://docs.docker.com/go/dockerfile/rule/{page}/")
            }
        }
    };
}

rules! {
    StageNameCasing "stage-name-casing" "Stage names should be lowercase"
    FromAsCasing "from-as-casing" "The 'as' keyword should match the case of the 'from' keyword"
    NoEmptyContinuation "no-empty-continuation" "Empty continuation lines will become errors in a future release"
    ConsistentInstructionCasing "consistent-instruction-casing"
        "All commands within the Dockerfile should use the same casing (either upper or lower)"
    DuplicateStageName "duplicate-stage-name" "Stage names should be unique"
    ReservedStageName "reserved-stage-name" "Reserved words should not be used as stage names"
    JSONArgsRecommended "json-args-recommended"
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
    MaintainerDeprecated "maintainer-deprecated"
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
    UndefinedArgInFrom "undefined-arg-in-from" "FROM command must use declared ARGs"
    WorkdirRelativePath "workdir-relative-path"
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes"
    UndefinedVar "undefined-var" "Variables should be defined before their use"
    MultipleInstructionsDisallowed "multiple-instructions-disallowed"
        "Multiple instructions of the same type should not be used in the same stage"
    LegacyKeyValueFormat "legacy-key-value-format"
        "Legacy key/value format with whitespace separator should not be used"
    RedundantTargetPlatform "redundant-target-platform"
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
    SecretsUsedInArgOrEnv "secrets-used-in-arg-or-env"
        "Sensitive data should not be used in the ARG or ENV commands"
    InvalidDefaultArgInFrom "invalid-default-arg-in-from"
        "Default value for global ARG results in an empty or invalid base image name"
    FromPlatformFlagConstDisallowed "from-platform-flag-const-disallowed"
        "FROM --platform flag should not use a constant value"
    CopyIgnoredFile "copy-ignored-file" "Attempting to Copy file that is excluded by .dockerignore"
    InvalidDefinitionDescription "invalid-definition-description"
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment."
    ExposeProtoCasing "expose-proto-casing" "Protocol in EXPOSE instruction should be lowercase"
    ExposeInvalidFormat "expose-invalid-format"
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release"
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// What is wrong here.
    pub detail: String,
    /// First and last line of the instruction, from 1.
    pub lines: (usize, usize),
}

/// What `# check=` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    skip_all: bool,
    skip: BTreeSet<String>,
    experimental_all: bool,
    experimental: BTreeSet<String>,
    error: bool,
}

impl Options {
    /// Reads `skip=A,B;error=true;experimental=all`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text.trim().splitn(3, ';').filter(|_| !text.trim().is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("invalid check option {part:?}"))?;
            let names = || value.split(',').map(|name| name.trim().to_owned()).collect();
            match (key.trim(), value.trim()) {
                ("skip", "all") => options.skip_all = true,
                ("skip", _) => options.skip = names(),
                ("experimental", "all") => options.experimental_all = true,
                ("experimental", _) => options.experimental = names(),
                ("error", "1" | "t" | "T" | "true" | "TRUE" | "True") => options.error = true,
                ("error", "0" | "f" | "F" | "false" | "FALSE" | "False") => options.error = false,
                ("error", _) => return Err(format!("failed to parse check option {part:?}")),
                (other, _) => return Err(format!("invalid check option {other:?}")),
            }
        }
        Ok(options)
    }

    fn allows(&self, rule: Rule) -> bool {
        if rule == Rule::InvalidDefinitionDescription {
            return self.experimental_all || self.experimental.contains(rule.name());
        }
        !self.skip_all && !self.skip.contains(rule.name())
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub struct Linter {
    options: Options,
    /// Triggers of a base image are somebody else's.
    file: PathBuf,
    warnings: Mutex<Vec<Warning>>,
}

impl Linter {
    /// With the options of the file's directive, or of what stands above it (`BUILDKIT_DOCKERFILE_CHECK`).
    ///
    /// Errors: what is wrong with them, as a sentence fragment.
    pub fn new(file: &Dockerfile, above: Option<&str>) -> Result<Self, String> {
        let text = above.or(file.directives.check.as_deref()).unwrap_or_default();
        let path = file.stages.first().map(|stage| stage.from.line.path().to_owned()).unwrap_or_default();
        Ok(Self { options: Options::parse(text)?, file: path, warnings: Mutex::default() })
    }

    /// Reports a finding about an instruction, unless a `# check=skip=` above it or above the file says otherwise.
    pub fn warn(&self, rule: Rule, line: &Line, detail: String) {
        let own = line.comments.iter().find_map(|comment| own_options(comment));
        let of_file = self.options.allows(rule);
        let allowed = match (rule, own) {
            (_, None) => of_file,
            // What is experimental has to be asked for once, the rest may be skipped in either place.
            (Rule::InvalidDefinitionDescription, Some(own)) => of_file || own.allows(rule),
            (_, Some(own)) => of_file && own.allows(rule),
        };
        if allowed && line.path() == self.file {
            self.add(Warning { rule, detail, lines: line.lines });
        }
    }

    fn add(&self, warning: Warning) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        // A stage that is built for two targets is interpreted once each.
        if warnings.len() < WARNINGS_MAX && !(warning.rule != Rule::UndefinedVar && warnings.contains(&warning)) {
            warnings.push(warning);
        }
    }

    /// What was found, by line.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        warnings.sort_by_key(|warning| warning.lines.0);
        warnings
    }

    /// The names of the rules that were violated, where that is an error.
    pub fn violation(&self) -> Option<String> {
        let rules: BTreeSet<Rule> = self.warnings().iter().map(|warning| warning.rule).collect();
        let names: Vec<&str> = rules.into_iter().map(Rule::name).collect();
        (self.options.error && !names.is_empty()).then(|| names.join(", "))
    }

    /// The rules that need nothing but the text.
    pub fn check_file(&self, file: &Dockerfile) {
        let stages = || file.stages.iter();
        let all = || stages().flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
        for instruction in file.globals.iter().chain(all()) {
            self.check_text(instruction);
        }
        self.check_names(file);
        self.check_casing(all());
    }

    fn check_text(&self, instruction: &Instruction) {
        let line = &instruction.line;
        if let Some(last) = line.empty_continuation {
            let warning = Warning {
                rule: Rule::NoEmptyContinuation,
                detail: "Empty continuation line".into(),
                lines: (last, last),
            };
            if self.options.allows(warning.rule) {
                self.add(warning);
            }
        }
        match &instruction.kind {
            Kind::Maintainer(_) => {
                let detail = "Maintainer instruction is deprecated in favor of using label";
                self.warn(Rule::MaintainerDeprecated, line, detail.into());
            }
            Kind::From(from) => {
                if let Some(name) = &from.name {
                    self.check_from(line, name);
                    self.check_description("FROM", std::slice::from_ref(name), line);
                }
            }
            Kind::Arg(pairs) => {
                let names: Vec<String> = pairs.iter().map(|(name, _)| name.clone()).collect();
                self.check_description("ARG", &names, line);
            }
            _ => {}
        }
    }

    fn check_from(&self, line: &Line, name: &str) {
        let words: Vec<&str> = line.text.split_whitespace().collect();
        let [command, .., keyword, typed] = words.as_slice() else { return };
        if *typed != name {
            self.warn(Rule::StageNameCasing, line, format!("Stage name '{typed}' should be lowercase"));
        }
        let same = match (is_lower(command), is_upper(command)) {
            (true, _) => is_lower(keyword),
            (_, true) => is_upper(keyword),
            // That is another rule's business.
            _ => true,
        };
        if !same {
            let detail = format!("'{keyword}' and '{command}' keywords' casing do not match");
            self.warn(Rule::FromAsCasing, line, detail);
        }
    }

    fn check_description(&self, instruction: &str, names: &[String], line: &Line) {
        let Some(comment) = line.comments.last() else { return };
        let first = comment.split(' ').next().unwrap_or_default();
        let (Some(name), false) = (names.first(), names.iter().any(|name| name == first)) else { return };
        let name = if names.len() > 1 { "<arg_key>" } else { name };
        let detail = format!("Comment for {instruction} should follow the format: `# {name} <description>`");
        self.warn(Rule::InvalidDefinitionDescription, line, detail);
    }

    fn check_names(&self, file: &Dockerfile) {
        let mut seen = BTreeSet::new();
        for stage in &file.stages {
            let Kind::From(from) = &stage.from.kind else { continue };
            let Some(name) = &from.name else { continue };
            if matches!(name.as_str(), "context" | "scratch") {
                let detail = format!("Stage name should not use the same name as reserved stage {name:?}");
                self.warn_of_file(Rule::ReservedStageName, &stage.from.line, detail);
            }
            if !seen.insert(name) {
                let detail = format!("Duplicate stage name {name:?}, stage names should be unique");
                self.warn_of_file(Rule::DuplicateStageName, &stage.from.line, detail);
            }
        }
    }

    fn check_casing<'i>(&self, instructions: impl Iterator<Item = &'i Instruction> + Clone) {
        let (mut lower, mut upper) = (0usize, 0usize);
        for instruction in instructions.clone() {
            let command = instruction.line.command();
            lower += usize::from(is_lower(command));
            upper += usize::from(is_upper(command) && !is_lower(command));
        }
        let wants_lower = lower > upper;
        for Instruction { line, .. } in instructions {
            let command = line.command();
            let (fits, wanted) =
                if wants_lower { (is_lower(command), "lowercase") } else { (is_upper(command), "uppercase") };
            if !fits {
                let detail = format!("Command '{command}' should match the case of the command majority ({wanted})");
                self.warn_of_file(Rule::ConsistentInstructionCasing, line, detail);
            }
        }
    }

    /// Reports what comments above the instruction cannot silence, as in BuildKit.
    fn warn_of_file(&self, rule: Rule, line: &Line, detail: String) {
        if self.options.allows(rule) {
            self.add(Warning { rule, detail, lines: line.lines });
        }
    }
}

fn own_options(comment: &str) -> Option<Options> {
    let (name, value) = comment.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("check") {
        return None;
    }
    let value = value.trim();
    Options::parse(value.split(' ').next().unwrap_or(value)).ok()
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

/// ` (did you mean x?)` for the nearest of the known names, or nothing. `sigil` stands before the name.
pub fn meant<'a>(typed: &str, known: impl Iterator<Item = &'a str>, sigil: &str) -> String {
    let mut best: Option<(usize, &str)> = None;
    for name in known.take(SUGGESTED_FROM_MAX) {
        let distance = strsim::levenshtein(typed, name);
        if distance == 0 {
            return String::new();
        }
        if distance < best.map_or(DISTANCE, |(distance, _)| distance) {
            best = Some((distance, name));
        }
    }
    best.map_or_else(String::new, |(_, name)| format!(" (did you mean {sigil}{name}?)"))
}

/// Whether a variable's name says that it holds something secret.
pub fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&HARMLESS)
}

/// Lines of a Dockerfile around a finding, as BuildKit prints them.
pub fn excerpt(name: &str, source: &[String], lines: (usize, usize)) -> String {
    let count = source.len();
    let (mut start, mut end) = (lines.0, lines.1.min(count).max(lines.0));
    if start < 1 || start > count {
        return String::new();
    }
    let wanted = if start == end { 4 } else { 2 };
    let first = start;
    let mut added = 0;
    while added < wanted {
        if start > 1 {
            start -= 1;
            added += 1;
        }
        if end != count {
            end += 1;
            added += 1;
        }
        added += 1;
    }
    let rule = "-".repeat(20);
    let mut text = format!("{name}:{first}\n{rule}\n");
    for number in start..=end {
        let mark = if (lines.0..=lines.1).contains(&number) { ">>>" } else { "   " };
        text.push_str(&format!(" {number:3} | {mark} {}\n", source[number - 1]));
    }
    text + &rule + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut request = crate::build::BuildRequest::new("/nowhere");
        request.dockerfile = crate::build::DockerfileSource::Inline(text.into());
        let checked = crate::build::check(&request).expect("a valid Dockerfile");
        checked.found.iter().map(|(_, warning)| format!("{} {}", warning.lines.0, warning.detail)).collect()
    }

    #[test]
    fn every_rule_has_its_words() {
        let text = "ARG BASE\nfrom busybox$BASE$NOPE as One\nMAINTAINER me\nENV A b\nARG API_KEY\nEXPOSE 80/TCP 1:2\n\
            WORKDIR rel\nRUN a \\\n\n  b\nUSER $USR\nCMD a\nCMD [\"a\"]\n\
            FROM --platform=$TARGETPLATFORM one AS scratch\nFROM --platform=linux/s390x alpine AS scratch\nENTRYPOINT x\n\
            FROM scratch AS scratch\nCOPY --from=one a b\n";
        assert_eq!(
            found(text),
            [
                "2 Stage name 'One' should be lowercase",
                "2 Command 'from' should match the case of the command majority (uppercase)",
                "2 FROM argument 'NOPE' is not declared",
                "3 Maintainer instruction is deprecated in favor of using label",
                "4 \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
                "5 Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")",
                "6 Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
                "6 EXPOSE instruction should not define an IP address or host-port mapping, found '1:2'",
                "7 Relative workdir \"rel\" can have unexpected results if the base image changes",
                "10 Empty continuation line",
                "11 Usage of undefined variable '$USR'",
                "12 JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
                "12 Multiple CMD instructions should not be used in the same stage because only the last one will be used",
                "14 Stage name should not use the same name as reserved stage \"scratch\"",
                "14 Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
                "15 Stage name should not use the same name as reserved stage \"scratch\"",
                "15 Duplicate stage name \"scratch\", stage names should be unique",
                "15 FROM --platform flag should not use constant value \"linux/s390x\"",
                "16 JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
                "17 Stage name should not use the same name as reserved stage \"scratch\"",
                "17 Duplicate stage name \"scratch\", stage names should be unique",
            ]
        );
    }

    #[test]
    fn comments_silence_rules() {
        assert!(found("# check=skip=all\nFROM a AS B\nCMD x").is_empty());
        assert!(found("# check=skip=JSONArgsRecommended\nFROM a\nCMD x").is_empty());
        assert!(found("FROM a\n# check=skip=JSONArgsRecommended\nCMD x").is_empty());
        assert_eq!(found("FROM a\n# check=skip=StageNameCasing\nCMD x").len(), 1);
        let described = "# check=experimental=all\n# other text\nFROM a AS b\n# c is it\nARG c";
        assert_eq!(found(described), ["3 Comment for FROM should follow the format: `# b <description>`"]);
    }

    #[test]
    fn excerpts_show_the_neighbours() {
        let lines: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let expected = "F:3\n--------------------\n   1 |     a\n   2 |     b\n   3 | >>> c\n   4 |     d\n   5 |     e\n--------------------\n";
        assert_eq!(excerpt("F", &lines, (3, 3)), expected);
        assert_eq!(
            excerpt("F", &lines[..1], (1, 1)),
            "F:1\n--------------------\n   1 | >>> a\n--------------------\n"
        );
        assert_eq!(excerpt("F", &lines, (9, 9)), "");
    }
}
