//! Platforms as builds name them: `linux/amd64`, `linux/arm64/v8`, `arm64`.
//!
//! Source: containerd `platforms` (normalisation of architecture names).

use std::fmt;

/// An operating system and a processor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ….
    pub architecture: String,
    /// `v7`, …; often empty.
    pub variant: String,
}

impl Platform {
    /// The platform of this host.
    pub fn host() -> Self {
        let (architecture, variant) = normalized(std::env::consts::ARCH, "");
        Self { os: "linux".into(), architecture, variant }
    }

    /// Reads `os[/arch[/variant]]` or `arch`; `None` when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let word =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.()".contains(&b));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return None;
        }
        // `windows(10.0.17763)` names a version, which does not matter here.
        let os = |text: &str| text.split('(').next().unwrap_or(text).to_ascii_lowercase();
        let host = Self::host();
        let (os, (architecture, variant)) = match parts.as_slice() {
            [one] if is_os(&os(one)) => (os(one), (host.architecture, host.variant)),
            [one] if is_architecture(one) => (host.os, normalized(one, "")),
            [first, architecture] => (os(first), normalized(architecture, "")),
            [first, architecture, variant] => (os(first), normalized(architecture, variant)),
            _ => return None,
        };
        Some(Self { os, architecture, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

fn is_os(text: &str) -> bool {
    matches!(
        text,
        "aix"
            | "android"
            | "darwin"
            | "macos"
            | "dragonfly"
            | "freebsd"
            | "illumos"
            | "linux"
            | "netbsd"
            | "openbsd"
            | "plan9"
            | "solaris"
            | "wasip1"
            | "windows"
    )
}

fn is_architecture(text: &str) -> bool {
    let (name, _) = normalized(text, "");
    matches!(
        name.as_str(),
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips"
            | "mips64"
            | "mips64le"
            | "mipsle"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

fn normalized(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "i686" | "x86", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}
