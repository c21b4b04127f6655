//! Links `src/allocator.c` into the program: the allocator has to be told before the first thread begins, and from
//! outside the process only an environment variable could.

fn main() {
    println!("cargo:rerun-if-changed=src/allocator.c");
    let objects = cc::Build::new().file("src/allocator.c").warnings_into_errors(true).compile_intermediates();
    for object in objects {
        // As an object, not in a library: nothing refers to it, and the linker would leave it out.
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
}
