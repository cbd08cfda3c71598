"""SHA-256 of images, computed once for each image of a package."""

DigestInfo = provider(
    "An image and its digest.",
    fields = {
        "image": "the image's file",
        "sha256": "a file with its SHA-256 in hexadecimal",
    },
)

def _digest_impl(ctx):
    image = ctx.file.image
    out = ctx.actions.declare_file(ctx.label.name + ".sha256")
    ctx.actions.run_shell(
        inputs = [image],
        outputs = [out],
        arguments = [image.path, out.path],
        command = 'sha256sum <"$1" | cut -c1-64 >"$2"',
        mnemonic = "ImageDigest",
        progress_message = "Digesting image " + image.short_path,
    )
    return [
        DefaultInfo(files = depset([out])),
        DigestInfo(image = image, sha256 = out),
    ]

image_digest = rule(
    _digest_impl,
    doc = "The SHA-256 of an image.",
    attrs = {
        "image": attr.label(
            doc = "The image.",
            mandatory = True,
            allow_single_file = True,
        ),
    },
)

def digests_of(images):
    """Declares a digest for each image, and returns their labels with the images' names.

    Args:
      images: names by label.
    Returns:
      names by label of digest.
    """
    digests = {}
    for image, name in images.items():
        target = "_" + "".join([c if c.isalnum() else "_" for c in str(image).elems()]) + "_digest"
        if not native.existing_rule(target):
            image_digest(
                name = target,
                image = image,
                tags = ["manual"],
                visibility = ["//visibility:private"],
            )
        digests[":" + target] = name
    return digests
