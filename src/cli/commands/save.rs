use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use crate::base::fs::{Context as _, is_replaceable};
use crate::cli::{Context, Mistake, Outcome};
use crate::image::{self, Saved};
use crate::model::image::Image;
use crate::model::reference::Reference;

/// Write images as an archive, for `load` here, for Docker and for OCI tools
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Only the image for this `os/arch`, of one that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// File instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Saves. A file is complete or not there.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let engine = context.engine()?;
    let images = engine.store().images();
    let mut found: Vec<(Vec<Image>, Vec<Reference>)> = Vec::new();
    for name in &args.images {
        let image = image::find(engine.store(), name, args.platform.as_deref())?;
        // An id has no name; a repository without a tag is its `latest`.
        let known = images.references(&image.id)?;
        let named: Vec<Reference> =
            name.parse::<Reference>().ok().filter(|name| known.contains(name)).into_iter().collect();
        let several = match named.first() {
            Some(name) if args.platform.is_none() => image::platforms_of(engine.store(), name)?,
            _ => vec![image],
        };
        let same = |other: &[Image]| other.iter().map(|image| &image.id).eq(several.iter().map(|image| &image.id));
        match found.iter_mut().find(|(other, _)| same(other)) {
            Some((_, references)) => references.extend(named),
            None => found.push((several, named)),
        }
    }
    let annotations = BTreeMap::new();
    let saved: Vec<Saved<'_>> =
        found.iter().map(|(images, references)| Saved { images, references, annotations: &annotations }).collect();
    let Some(path) = &args.output else {
        if io::stdout().is_terminal() {
            let text = "an archive is nothing for a terminal: use -o FILE, or redirect the output";
            return Err(Mistake::usage(text).into());
        }
        let mut out = context.output();
        image::save(engine.store(), &saved, &mut out)?;
        out.flush()?;
        return Ok(0);
    };
    if !is_replaceable(path) {
        image::save(engine.store(), &saved, &mut File::create(path).context("create", path)?)?;
        return Ok(0);
    }
    let mut name = path.clone().into_os_string();
    name.push(".part");
    let temporary = PathBuf::from(name);
    let mut file = File::create(&temporary).context("create", &temporary)?;
    let written = image::save(engine.store(), &saved, &mut file)
        .and_then(|_| Ok(std::fs::rename(&temporary, path).context("create", path)?));
    if written.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    written?;
    Ok(0)
}
