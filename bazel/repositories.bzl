"""Repositories of what is not built by Bazel: programs that cargo builds, and the reference guest.

Both are made on this machine, outside of any sandbox, once per start of Bazel's server; what they
give to tests are ordinary files, whose content Bazel digests as it does with all others.
"""

# As long as a build from nothing may take, in seconds.
_BUILD_SECONDS = 3600

def _run(ctx, words, directory, what):
    """Runs a command, and returns what it printed."""
    done = ctx.execute(words, working_directory = str(directory), timeout = _BUILD_SECONDS, quiet = False)
    if done.return_code != 0:
        fail("{}: `{}` in {} ended with {}\n{}".format(
            what,
            " ".join([str(word) for word in words]),
            directory,
            done.return_code,
            done.stderr[-2000:],
        ))
    return done.stdout

def _path_of(ctx, path):
    """A path that is given from the root of the workspace."""
    if path.startswith("/"):
        return ctx.path(path)
    if hasattr(ctx, "workspace_root"):
        root = ctx.workspace_root
    else:
        # Before Bazel 6.
        root = ctx.path(Label("@//:WORKSPACE")).dirname
    return ctx.path(str(root) + "/" + path)

def _cargo_programs_impl(ctx):
    directory = ctx.os.environ.get("STEADING_PROGRAMS")
    if directory:
        made = {name: ctx.path(directory).get_child(name) for name in ctx.attr.programs}
        advice = "STEADING_PROGRAMS names {}".format(directory)
    else:
        cargo = ctx.which("cargo")
        if not cargo:
            fail("there is no cargo on PATH\nhint: install Rust, or set STEADING_PROGRAMS to the directory of built programs")
        workspace = _path_of(ctx, ctx.attr.workspace)
        words = [cargo, "build", "--locked", "--profile", ctx.attr.profile, "--message-format=json-render-diagnostics"]
        for name in ctx.attr.programs:
            words += ["--bin", name]
        made = {}
        for line in _run(ctx, words, workspace, "cannot build the programs").splitlines():
            message = json.decode(line) if line.startswith("{") else {}
            if message.get("executable"):
                made[message["target"]["name"]] = ctx.path(message["executable"])
        advice = "cargo built {}".format(", ".join(made.keys()) or "nothing")
    exports = []
    for name in ctx.attr.programs:
        if name not in made or not made[name].exists:
            fail("there is no program {}: {}".format(name, advice))
        ctx.symlink(made[name], name)
        exports.append(name)
    ctx.file("BUILD.bazel", "exports_files({}, visibility = [\"//visibility:public\"])\n".format(exports))

cargo_programs = repository_rule(
    _cargo_programs_impl,
    doc = "Programs of a cargo workspace, each a file of this repository: `@NAME//:PROGRAM`.",
    attrs = {
        "programs": attr.string_list(
            doc = "The names of the programs.",
            mandatory = True,
            allow_empty = False,
        ),
        "profile": attr.string(
            doc = "The profile that cargo builds.",
            default = "release",
        ),
        "workspace": attr.string(
            doc = "The directory of the cargo workspace, from the root of this one.",
            default = ".",
        ),
    },
    # Cargo knows what has changed, and Bazel does not: it is asked anew at each start of the server.
    local = True,
    environ = ["PATH", "STEADING_PROGRAMS"],
)

_GUEST_BUILD = """filegroup(
    name = "{name}",
    srcs = {files},
    visibility = ["//visibility:public"],
)

exports_files({files}, visibility = ["//visibility:public"])
"""

def _reference_guest_impl(ctx):
    directory = ctx.os.environ.get("STEADING_GUEST")
    if not directory:
        recipe = _path_of(ctx, ctx.attr.recipe)
        directory = _run(ctx, [recipe], recipe.dirname, "cannot build the guest").strip().split("\n")[-1]
    files = ["manifest.json"]
    manifest = json.decode(ctx.read(ctx.path(directory).get_child("manifest.json")))
    files += [manifest[part] for part in ["kernel", "initrd", "disk"]]
    for name in files:
        ctx.symlink(ctx.path(directory).get_child(name), name)
    ctx.file("BUILD.bazel", _GUEST_BUILD.format(name = ctx.attr.target, files = files))

reference_guest = repository_rule(
    _reference_guest_impl,
    doc = "The reference guest: `@NAME//:guest`, and each of its files.",
    attrs = {
        "recipe": attr.string(
            doc = "The program that builds it and prints where, from the root of the workspace: `guest/build` of Steading.",
            mandatory = True,
        ),
        "target": attr.string(
            doc = "The name of the target with all its files.",
            default = "guest",
        ),
    },
    local = True,
    environ = ["PATH", "STEADING_GUEST"],
)
