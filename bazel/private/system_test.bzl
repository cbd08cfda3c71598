"""The rule behind `system_test`: a launcher that hands runfiles over by environment."""

load(":digest.bzl", "DigestInfo")

def _runfile(ctx, file):
    """Where a file is below the directory of runfiles."""
    if file.short_path.startswith("../"):
        return file.short_path[len("../"):]
    return ctx.workspace_name + "/" + file.short_path

def _quoted(text):
    """As one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"

def _variable(name):
    """`STEADING_IMAGE_` and the name, as `steading_plan::handed` makes it."""
    return "STEADING_IMAGE_" + "".join([c.upper() if c.isalnum() else "_" for c in name.elems()])

def _impl(ctx):
    lines = []
    files = []
    taken = {}
    for target, name in ctx.attr.image_digests.items():
        digest = target[DigestInfo]
        variable = _variable(name)
        if variable in taken:
            fail("the images {} and {} have the same variable, {}".format(taken[variable], name, variable))
        taken[variable] = name
        files += [digest.image, digest.sha256]
        lines.append('export {}="$runfiles"/{}'.format(variable, _quoted(_runfile(ctx, digest.image))))
        lines.append('{}_SHA256=$(<"$runfiles"/{})'.format(variable, _quoted(_runfile(ctx, digest.sha256))))
        lines.append("export {}_SHA256".format(variable))
    if ctx.attr.reference_guest:
        manifest = [f for f in ctx.files.reference_guest if f.basename == "manifest.json"]
        if len(manifest) != 1:
            fail("reference_guest has no manifest.json: {}".format(ctx.attr.reference_guest.label))
        directory = _runfile(ctx, manifest[0]).rpartition("/")[0]
        lines.append('export STEADING_GUEST="$runfiles"/' + _quoted(directory))
        files += ctx.files.reference_guest
    for name, value in ctx.attr.env.items():
        value = ctx.expand_location(value, ctx.attr.data)
        lines.append("export {}={}".format(name, _quoted(value)))

    launcher = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.expand_template(
        template = ctx.file._launcher,
        output = launcher,
        substitutions = {
            "{BACKEND}": ctx.attr.backend,
            "{DECLARED}": _quoted(ctx.attr.declared),
            "{DRIVER}": _quoted(_runfile(ctx, ctx.executable.driver)),
            "{ENVIRONMENT}": "\n".join(lines),
            "{LABEL}": str(ctx.label),
        },
        is_executable = True,
    )
    runfiles = ctx.runfiles(files = files + ctx.files.data + [ctx.executable.driver])
    for target in [ctx.attr.driver] + ctx.attr.data:
        runfiles = runfiles.merge(target[DefaultInfo].default_runfiles)
    return [DefaultInfo(executable = launcher, runfiles = runfiles)]

system_test_program_test = rule(
    _impl,
    doc = "One target of a `system_test`.",
    test = True,
    attrs = {
        "backend": attr.string(
            doc = "Where it runs.",
            mandatory = True,
            values = ["local", "farm"],
        ),
        "data": attr.label_list(
            doc = "Files that the program reads.",
            allow_files = True,
        ),
        "declared": attr.string(
            doc = "The VMs, as JSON.",
            mandatory = True,
        ),
        "driver": attr.label(
            doc = "The test program.",
            mandatory = True,
            executable = True,
            allow_files = True,
            cfg = "target",
        ),
        "env": attr.string_dict(doc = "Environment of the program."),
        "image_digests": attr.label_keyed_string_dict(
            doc = "Images with digests, and their names.",
            providers = [DigestInfo],
        ),
        "reference_guest": attr.label(
            doc = "The files of a reference guest.",
            allow_files = True,
        ),
        "_launcher": attr.label(
            default = "//private:launcher.sh.tpl",
            allow_single_file = True,
        ),
    },
)

system_test_program = system_test_program_test
