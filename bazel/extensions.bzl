"""The repositories of `repositories.bzl`, for workspaces with Bzlmod.

    steading = use_extension("@steading//:extensions.bzl", "steading")
    steading.programs(name = "programs", programs = ["my-test"], workspace = "rust")
    steading.reference_guest(name = "guest", recipe = "third_party/steading/guest/build")
    use_repo(steading, "guest", "programs")
"""

load(":repositories.bzl", "cargo_programs", "reference_guest")

def _impl(ctx):
    for module in ctx.modules:
        for tag in module.tags.programs:
            cargo_programs(
                name = tag.name,
                profile = tag.profile,
                programs = tag.programs,
                workspace = tag.workspace,
            )
        for tag in module.tags.reference_guest:
            reference_guest(name = tag.name, recipe = tag.recipe)

steading = module_extension(
    _impl,
    tag_classes = {
        "programs": tag_class(
            doc = "See `cargo_programs`.",
            attrs = {
                "name": attr.string(mandatory = True),
                "profile": attr.string(default = "release"),
                "programs": attr.string_list(mandatory = True, allow_empty = False),
                "workspace": attr.string(default = "."),
            },
        ),
        "reference_guest": tag_class(
            doc = "See `reference_guest`.",
            attrs = {
                "name": attr.string(mandatory = True),
                "recipe": attr.string(mandatory = True),
            },
        ),
    },
)
