//! Registries for tests: Debian's docker-registry on loopback, and one that answers as a test wants.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Platform;
use super::unpack_tests::Archive;
use crate::base::id::Digest;
use crate::model::image::ImageConfig;
use crate::model::reference::Reference;
use crate::store::testing::Folder;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer that does not compress well, so that it takes several pieces.
pub(super) fn layer(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let text: String = (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'0' + (state >> 60) as u8)
        })
        .collect();
    Archive::default().folder("d").file(&format!("d/{seed}"), &text).bytes()
}

/// An image as a registry has it.
#[derive(Clone)]
pub(super) struct Pushed {
    pub(super) manifest: Vec<u8>,
    pub(super) blobs: Vec<Vec<u8>>,
}

impl Pushed {
    pub(super) fn new(layers: &[(Vec<u8>, &str)]) -> Self {
        Self::of_platform(layers, &Platform::host())
    }

    /// Layers as plain archives, and how each is compressed.
    pub(super) fn of_platform(layers: &[(Vec<u8>, &str)], platform: &Platform) -> Self {
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids = layers.iter().map(|(layer, _)| Digest::of(layer)).collect();
        let config = serde_json::to_vec(&config).unwrap();
        let mut blobs = vec![config.clone()];
        let mut descriptors = Vec::new();
        for (layer, compression) in layers {
            let blob = match *compression {
                "gzip" => gzip(layer),
                "zstd" => zstd::encode_all(&layer[..], 1).unwrap(),
                _ => layer.clone(),
            };
            let suffix = if compression.is_empty() { String::new() } else { format!("+{compression}") };
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
            descriptors.push(descriptor(&blob, &media_type));
            blobs.push(blob);
        }
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"),
            "layers": descriptors,
        });
        Self { manifest: serde_json::to_vec(&manifest).unwrap(), blobs }
    }
}

pub(super) fn descriptor(content: &[u8], media_type: &str) -> serde_json::Value {
    serde_json::json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()})
}

/// One HTTP request over a connection of its own; returns status, headers (lower case) and body.
pub(super) fn http(
    port: u16,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> (u16, HashMap<String, String>, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = read_headers(&mut reader);
    let mut content = Vec::new();
    reader.read_to_end(&mut content).unwrap();
    (status, headers, content)
}

pub(super) fn read_headers(reader: &mut impl BufRead) -> HashMap<String, String> {
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            return headers;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
}

/// docker-registry on a free port of loopback; killed when dropped.
pub(super) struct Registry {
    process: std::process::Child,
    pub(super) port: u16,
    _folder: Folder,
}

impl Registry {
    pub(super) fn start() -> Self {
        Self::start_with(Folder::new(), "")
    }

    /// With further lines for the section `http` of its settings.
    pub(super) fn start_with(folder: Folder, settings: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{settings}",
            folder.path().join("data").display()
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let process = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self { process, port, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    pub(super) fn push_blob(&self, repository: &str, blob: &[u8]) {
        let (status, headers, _) = http(self.port, "POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202);
        let location = &headers["location"];
        let path = location.split_once(&format!(":{}", self.port)).map_or(location.as_str(), |(_, path)| path);
        let path = format!("{path}&digest={}", Digest::of(blob));
        let (status, _, body) = http(self.port, "PUT", &path, "application/octet-stream", blob);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    pub(super) fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let (status, _, body) =
            http(self.port, "PUT", &format!("/v2/{repository}/manifests/{tag}"), media_type, manifest);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    pub(super) fn push(&self, repository: &str, tag: &str, image: &Pushed) {
        for blob in &image.blobs {
            self.push_blob(repository, blob);
        }
        self.push_manifest(repository, tag, MANIFEST, &image.manifest);
    }

    pub(super) fn reference(&self, name: &str) -> Reference {
        format!("127.0.0.1:{}/{name}", self.port).parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A request as a hostile registry sees it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
}

/// What it answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub(super) cut: Option<usize>,
    /// Nothing follows after so many bytes, and the connection stays open.
    pub(super) stall: Option<usize>,
    /// The body is sent so many times more.
    pub(super) again: usize,
    /// Between the bytes of the body.
    pub(super) drip: Option<Duration>,
}

pub(super) type Rule = Box<dyn Fn(&Request, usize) -> Option<Reply> + Send>;

#[derive(Default)]
pub(super) struct State {
    pub(super) content: HashMap<String, (Vec<u8>, &'static str)>,
    pub(super) layers: Vec<String>,
    pub(super) requests: Vec<Request>,
    pub(super) rules: Vec<Rule>,
    pub(super) without_ranges: bool,
    /// Bytes of bodies that were taken.
    pub(super) sent_bytes: usize,
}

/// A tiny registry that does what the test wants. Its thread ends with the test's process.
pub(super) struct Hostile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) port: u16,
}

impl Hostile {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { state, port }
    }

    pub(super) fn serve(&self, repository: &str, image: &Pushed) {
        let mut state = self.state.lock().unwrap();
        for (number, blob) in image.blobs.iter().enumerate() {
            let path = format!("/v2/{repository}/blobs/{}", Digest::of(blob));
            if number > 0 {
                state.layers.push(path.clone());
            }
            state.content.insert(path, (blob.clone(), "application/octet-stream"));
        }
        for name in ["latest".to_owned(), Digest::of(&image.manifest).to_string()] {
            let path = format!("/v2/{repository}/manifests/{name}");
            state.content.insert(path, (image.manifest.clone(), MANIFEST));
        }
    }

    /// Asked before the content; gets the request and how many of that path came before.
    pub(super) fn rule(&self, rule: impl Fn(&Request, usize) -> Option<Reply> + Send + 'static) {
        self.state.lock().unwrap().rules.push(Box::new(rule));
    }

    pub(super) fn requests(&self, path: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    pub(super) fn layer_path(&self) -> String {
        self.state.lock().unwrap().layers[0].clone()
    }

    pub(super) fn reference(&self, name: &str) -> Reference {
        format!("127.0.0.1:{}/{name}", self.port).parse().unwrap()
    }
}

pub(super) fn answer(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let request = Request { path, headers: read_headers(&mut reader) };
        let reply = {
            let mut state = state.lock().unwrap();
            let before = state.requests.iter().filter(|other| other.path == request.path).count();
            state.requests.push(request.clone());
            let ruled = state.rules.iter().find_map(|rule| rule(&request, before));
            ruled.unwrap_or_else(|| honest(&state, &request))
        };
        let mut head =
            format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", reply.status, reply.body.len() * (reply.again + 1));
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let sent = reply.cut.or(reply.stall).unwrap_or(reply.body.len());
        if let Some(pause) = reply.drip {
            let mut bytes = reply.body.iter();
            let mut sent = stream.write_all(head.as_bytes()).is_ok();
            while let Some(byte) = bytes.next().filter(|_| sent) {
                std::thread::sleep(pause);
                sent = stream.write_all(&[*byte]).is_ok();
            }
            return;
        }
        let mut written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&reply.body[..sent]));
        for _ in 0..reply.again {
            if written.is_err() {
                return;
            }
            written = written.and_then(|()| stream.write_all(&reply.body));
            state.lock().unwrap().sent_bytes += reply.body.len();
        }
        if written.is_err() {
            return;
        }
        if reply.cut.is_some() {
            drop(stream.shutdown(std::net::Shutdown::Both));
            return;
        }
        if reply.stall.is_some() {
            // Until the other side gives up.
            drop(reader.read_to_end(&mut Vec::new()));
            return;
        }
    }
}

pub(super) fn honest(state: &State, request: &Request) -> Reply {
    let Some((body, media_type)) = state.content.get(&request.path) else {
        return Reply { status: 404, ..Reply::default() };
    };
    let headers = vec![("Content-Type", (*media_type).to_owned())];
    let offset =
        request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match offset.filter(|_| !state.without_ranges) {
        Some(offset) => {
            let offset: usize = offset;
            let range = format!("bytes {offset}-{}/{}", body.len() - 1, body.len());
            Reply {
                status: 206,
                headers: vec![("Content-Range", range)],
                body: body[offset..].to_vec(),
                ..Reply::default()
            }
        }
        None => Reply { status: 200, headers, body: body.clone(), ..Reply::default() },
    }
}
