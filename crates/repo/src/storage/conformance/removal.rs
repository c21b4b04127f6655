//! Removing objects and trees.

use super::{BELOW_AN_OBJECT, Bench, Check, ensure, ensure_eq, text};

pub(super) const CHECKS: &[Check] = &[
    ("a_removed_object_is_missing", |bench| Box::pin(removed(bench))),
    ("removing_what_is_not_there_succeeds", |bench| Box::pin(nothing(bench))),
    ("many_are_removed_at_once", |bench| Box::pin(many(bench))),
    ("a_tree_is_removed_and_nothing_beside_it", |bench| Box::pin(tree(bench))),
];

async fn removed(bench: &Bench) -> Result<(), String> {
    bench.put("one", b"1").await?;
    bench.put("two", b"2").await?;
    bench.storage.remove(&bench.path("one")).await.map_err(text)?;
    bench.ensure_absent("one").await?;
    bench.ensure_content("two", b"2").await
}

async fn nothing(bench: &Bench) -> Result<(), String> {
    bench.put("object", b"1").await?;
    for name in ["other", "no/such/object", BELOW_AN_OBJECT] {
        if !bench.is_a_place(name) {
            continue;
        }
        bench.storage.remove(&bench.path(name)).await.map_err(text)?;
        bench.storage.remove_tree(&bench.path(name)).await.map_err(text)?;
        let failed = bench.storage.remove_many(&[bench.path(name)]).await.map_err(text)?;
        ensure(failed.is_empty(), || format!("{name} could not be removed"))?;
    }
    let failed = bench.storage.remove_many(&[]).await.map_err(text)?;
    ensure(failed.is_empty(), || "an empty removal failed".to_owned())?;
    bench.ensure_content("object", b"1").await
}

async fn many(bench: &Bench) -> Result<(), String> {
    for name in ["a", "b", "d/c", "d/d", "keep"] {
        bench.put(name, b"1").await?;
    }
    let paths = ["a", "missing", "d/c", "b", "d/d"].map(|name| bench.path(name));
    let failed = bench.storage.remove_many(&paths).await.map_err(text)?;
    ensure(failed.is_empty(), || format!("{} could not be removed", failed.len()))?;
    for name in ["a", "b", "d/c", "d/d"] {
        bench.ensure_absent(name).await?;
    }
    bench.ensure_content("keep", b"1").await
}

async fn tree(bench: &Bench) -> Result<(), String> {
    for name in ["tree/a", "tree/b/c", "tree/b/d/e", "tree2", "tre/e", "tree.x/f"] {
        bench.put(name, b"1").await?;
    }
    bench.storage.remove_tree(&bench.path("tree")).await.map_err(text)?;
    ensure_eq("names in the tree", &bench.names("tree", true).await?, &Vec::new())?;
    let mut left = bench.names("", true).await?;
    left.sort();
    ensure_eq("names beside it", &left, &["tre/e", "tree.x/f", "tree2"].map(str::to_owned).to_vec())?;
    bench.put("tree/again", b"2").await?;
    bench.ensure_content("tree/again", b"2").await
}
