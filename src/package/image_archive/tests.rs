use std::io::Read as _;

use super::*;
use crate::archive::source::Compression;
use crate::archive::testing::{Raw, compress, file, folder, link, tar};

const CONFIG: &str = r#"{"architecture":"amd64","rootfs":{"type":"layers"}}"#;
const PROD: &str = "prod.example.com/site:live";

fn classic(manifest: &str) -> Vec<Raw> {
    vec![
        file("abc.json", CONFIG),
        folder("l1/"),
        file("l1/layer.tar", "layer one"),
        folder("l2/"),
        link("l2/layer.tar", "../l1/layer.tar"),
        file("manifest.json", manifest),
        file("repositories", r#"{"prod.example.com/site":{"live":"l2"}}"#),
    ]
}

fn one(tags: &str) -> String {
    format!(
        r#"[{{"Config":"abc.json","RepoTags":{tags},"Layers":["l1/layer.tar","l2/layer.tar"]}}]"#
    )
}

fn oci(index: &str) -> Vec<Raw> {
    let manifest = r#"[{"Config":"blobs/sha256/c","RepoTags":["prod.example.com/site:live"],"Layers":["blobs/sha256/l"]}]"#;
    vec![
        file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
        file("blobs/sha256/c", CONFIG),
        file("blobs/sha256/l", "layer"),
        file("blobs/sha256/m", "manifest"),
        file("index.json", index),
        file("manifest.json", manifest),
    ]
}

fn descriptor(digest: &str, name: &str) -> String {
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":8,
        "annotations":{{"io.containerd.image.name":"{name}","org.opencontainers.image.ref.name":"live"}}}}"#
    )
}

struct Place(tempfile::TempDir);

impl Place {
    fn put(&self, data: &[u8]) -> PathBuf {
        let path = self.0.path().join("image");
        std::fs::write(&path, data).unwrap();
        path
    }
}

fn place() -> Place {
    Place(tempfile::tempdir().unwrap())
}

fn contents(data: &[u8]) -> BTreeMap<String, String> {
    let mut archive = ::tar::Archive::new(data);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    });
    entries.collect()
}

#[test]
fn loading_can_only_create_the_given_tag() {
    let place = place();
    let both = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
        descriptor("m", PROD),
        descriptor("m", "docker.io/library/nginx:latest")
    );
    // Go reads keys without regard to case; these must not come through.
    let shouting = r#"[{"Config":"abc.json","repotags":["prod.example.com/site:live"],"REPOTAGS":["nginx:latest"],
        "Layers":["l1/layer.tar"],"Parent":"sha256:00"}]"#;
    let table = [
        (
            "classic",
            classic(&one(r#"["prod.example.com/site:live","nginx:latest"]"#)),
            vec!["nginx:latest", PROD],
        ),
        ("untagged", classic(&one("null")), vec![]),
        ("shouting", classic(shouting), vec![]),
        (
            "oci",
            oci(&both),
            vec!["docker.io/library/nginx:latest", PROD],
        ),
    ];
    for (name, members, tags) in table {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let path = place.put(&compress(&tar(&members), compression));
            let mut out = Vec::new();
            let facts = retag(&path, "rehearse-site/app:r1", &mut out).unwrap();
            assert_eq!(facts, inspect(&path).unwrap());
            assert_eq!(facts.tags, tags, "{name}");
            assert_eq!(
                facts.config_digest,
                format!("sha256:{}", hex(&Sha256::digest(CONFIG)))
            );
            let seen = contents(&out);
            let everything = seen.values().cloned().collect::<String>();
            for foreign in ["prod.example.com", "nginx", "live", "Parent"] {
                assert!(
                    !everything.contains(foreign),
                    "{name}: {foreign} in {everything}"
                );
            }
            let manifest: Value = serde_json::from_str(&seen["manifest.json"]).unwrap();
            assert_eq!(
                manifest[0]["RepoTags"],
                serde_json::json!(["rehearse-site/app:r1"]),
                "{name}"
            );
            assert!(!seen.contains_key("repositories"));
            let kept = members
                .iter()
                .filter(|member| member.name != b"repositories")
                .count();
            assert_eq!(seen.len(), kept, "{name}");
            // Loading it again through us finds exactly our tag.
            let again = inspect(&place.put(&out)).unwrap();
            assert!(
                again
                    .tags
                    .iter()
                    .all(|tag| tag.ends_with("rehearse-site/app:r1")),
                "{:?}",
                again.tags
            );
        }
    }
}

#[test]
fn names_in_an_index_are_those_of_the_containerd_store() {
    let place = place();
    let path = place.put(&tar(&oci(&format!(
        r#"{{"manifests":[{}]}}"#,
        descriptor("m", PROD)
    ))));
    for (tag, full) in [
        ("app:1", "docker.io/library/app:1"),
        ("rehearse/app:1", "docker.io/rehearse/app:1"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
    ] {
        let mut out = Vec::new();
        retag(&path, tag, &mut out).unwrap();
        let index: Value = serde_json::from_str(&contents(&out)["index.json"]).unwrap();
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
        assert_eq!(index["manifests"][0]["digest"], "sha256:m");
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            full
        );
        assert_eq!(
            index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
            "1"
        );
    }
}

#[test]
fn what_is_not_one_whole_image_is_refused_before_anything_is_written() {
    let place = place();
    let two = format!(
        r#"{{"manifests":[{},{}]}}"#,
        descriptor("m", PROD),
        descriptor("n", "b:1")
    );
    let without = |name: &str| {
        classic(&one("[]"))
            .into_iter()
            .filter(|m| m.name != name.as_bytes())
            .collect::<Vec<_>>()
    };
    let mut linked = without("manifest.json");
    linked.extend([
        file("other.json", &one("[]")),
        link("manifest.json", "other.json"),
    ]);
    let mut doubled = classic(&one("[]"));
    doubled.push(file("./manifest.json", &one(r#"["nginx:latest"]"#)));
    let mut truncated = tar(&classic(&one("[]")));
    truncated.truncate(3000);
    let table = [
        (tar(&without("manifest.json")), "has no `manifest.json`"),
        (
            tar(&without("abc.json")),
            "names `abc.json`, which is not in it",
        ),
        (
            tar(&without("l1/layer.tar")),
            "names `l1/layer.tar`, which is not in it",
        ),
        (tar(&classic("[]")), "holds 0 images"),
        (
            tar(&classic(&one("[]").replace(
                "}]",
                "},{\"Config\":\"abc.json\",\"Layers\":[]}]",
            ))),
            "holds 2 images",
        ),
        (tar(&classic("{}")), "cannot be read"),
        (tar(&oci(&two)), "lists several images"),
        (tar(&oci(r#"{"manifests":[]}"#)), "lists no image"),
        (tar(&linked), "`manifest.json` must be a file"),
        (tar(&doubled), "is there twice"),
        (truncated, "truncated"),
        (b"no archive".to_vec(), "it is no tar"),
    ];
    for (data, expected) in table {
        let mut out = Vec::new();
        let error = retag(&place.put(&data), "a:1", &mut out).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(out.is_empty(), "{error}");
    }
    let path = place.put(&tar(&classic(&one("[]"))));
    for tag in ["app", ":1", "app:", "a b:1", "app:1/2"] {
        assert!(
            matches!(
                retag(&path, tag, Vec::new()),
                Err(ImageArchiveError::Tag(_))
            ),
            "{tag}"
        );
    }
}
