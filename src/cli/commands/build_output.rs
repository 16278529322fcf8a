//! `build --output`: a folder, a tar, an archive of images.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::base::fs::{self, Context as _};
use crate::build::{self, BuildRequest};
use crate::cli::flags::build::{Destination, Output};
use crate::cli::{Failure, Mistake};
use crate::image::{Saved, save};
use crate::model::image::Image;
use crate::store::Store;

/// Does what an output asks for; returns the digest of the manifest where one was made.
pub fn export(
    store: &Store,
    output: &Output,
    images: &[Image],
    request: &BuildRequest,
) -> Result<Option<String>, Failure> {
    match output {
        // In the store already, and pushed by the caller.
        Output::Image { .. } => Ok(None),
        Output::Local(folder) => {
            for image in images {
                let folder = match images {
                    [_] => folder.clone(),
                    _ => folder.join(platform_folder(image)),
                };
                build::write_folder(store, image, &folder)?;
            }
            Ok(None)
        }
        Output::Tar(destination) => {
            let [image] = images else {
                return Err(Mistake::usage("a tar output is for one platform; use type=local for several").into());
            };
            write_to(destination, |file| build::write_root(store, image, file).map(drop).map_err(Failure::from))?;
            Ok(None)
        }
        Output::Archive { destination, folder } => {
            let saved = [Saved { images, references: &request.tags, annotations: &request.annotations }];
            let mut digest = None;
            let mut write = |file: &mut dyn Write| -> Result<(), Failure> {
                digest = Some(save(store, &saved, file)?.to_string());
                Ok(())
            };
            match (folder, destination) {
                (true, Destination::File(path)) => unpack_layout(path, &mut write)?,
                (true, Destination::Stdout) => return Err(Mistake::usage("tar=false needs dest=FOLDER").into()),
                (false, destination) => write_to(destination, write)?,
            }
            Ok(digest)
        }
    }
}

/// `linux_amd64`.
fn platform_folder(image: &Image) -> String {
    let variant = image.config.variant.as_ref().map(|variant| format!("_{variant}")).unwrap_or_default();
    format!("{}_{}{variant}", image.config.os, image.config.architecture)
}

/// Writes a file whole or not at all, or standard output.
fn write_to(
    destination: &Destination,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match destination {
        Destination::Stdout => {
            let mut out = std::io::stdout().lock();
            write(&mut out)?;
            Ok(out.flush()?)
        }
        Destination::File(path) => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::create_dir_all(folder)?;
            }
            // A device or a pipe cannot be replaced.
            if path.exists() && !path.is_file() {
                return write(&mut std::fs::File::create(path).context("create", path)?);
            }
            let mut name = path.as_os_str().to_owned();
            name.push(".partial");
            let partial = PathBuf::from(name);
            let mut file = std::fs::File::create(&partial).context("create", &partial)?;
            let result = write(&mut file);
            if result.is_err() {
                drop(fs::remove_file(&partial));
                return result;
            }
            Ok(std::fs::rename(&partial, path).context("create", path)?)
        }
    }
}

/// Writes an image layout as a folder: what `tar=false` asks for.
fn unpack_layout(folder: &Path, write: &mut dyn FnMut(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let archive = folder.join(".layout.tar");
    let result = write_to(&Destination::File(archive.clone()), write);
    let unpacked = result.and_then(|()| {
        let file = std::fs::File::open(&archive).context("open", &archive)?;
        // Our own archive: plain files with plain names.
        Ok(tar::Archive::new(file).unpack(folder).context("write", folder)?)
    });
    drop(fs::remove_file(&archive));
    unpacked
}
