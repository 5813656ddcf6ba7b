#!/usr/bin/env python3
"""Calibration and evaluation samples of the published models that the bench scripts are run on.

    bench_data.py --photos FOLDER --out FOLDER [--tokenizer tokenizer.json] [--font FONT.ttf] [--count 64]

Writes NAME-calib.npz and NAME-eval.npz, one array for each graph input, samples along axis 0. No picture, word or
sentence of a calibration file is in its evaluation file. Labels are not known: judge by agreement with the float model.

imagenet  input   3x224x224, ImageNet's mean and deviation: crops of the photos (MobileNetV2, EfficientNet-Lite0)
yolo      images  3x320x320, 0 to 1: crops of the photos (YOLOv8n)
det       x       3x320x320, ImageNet's mean and deviation: photos with lines of text drawn on them (PP-OCR detection)
rec       x       3x48x320, -1 to 1: a drawn line of text each (PP-OCR recognition)
minilm    input_ids, attention_mask, token_type_ids  64: sentences of Debian's fortunes; needs --tokenizer (MiniLM)

FOLDER of --photos: pictures, read in the order of their names, every other one for evaluation; scikit-image's photos
are added where it is installed. Needs numpy and pillow; tokenizers for MiniLM.
"""
import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
SCIKIT = "astronaut chelsea coffee rocket camera coins text page clock moon brick grass gravel retina".split()
FORTUNES = Path("/usr/share/games/fortunes")


def photos(folder):
    found = []
    try:
        import skimage.data

        for name in SCIKIT:
            try:
                found.append(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))
            except Exception as error:  # some are downloaded on first use
                print(f"without skimage's {name}: {type(error).__name__}")
    except ImportError:
        print("without scikit-image's photos")
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            found.append(Image.open(path).convert("RGB"))
    return found


def crop(rng, picture, size):
    side = int(min(picture.size) * rng.uniform(0.6, 1))
    x, y = (int(rng.integers(0, extent - side + 1)) for extent in picture.size)
    cut = picture.crop((x, y, x + side, y + side)).resize((size, size), Image.BILINEAR)
    return cut.transpose(Image.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cut


def pixels(picture):
    return np.asarray(picture, np.float32) / 255


def chw(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)


def draw_text(rng, picture, text, font, box, size):
    color = tuple(int(c) for c in rng.integers(0, 256, 3))
    ImageDraw.Draw(picture).text(box, text, fill=color, font=font(size))


def imagenet(rng, picture, _words, _font):
    return {"input": chw((pixels(crop(rng, picture, 224)) - MEAN) / DEVIATION)}


def yolo(rng, picture, _words, _font):
    return {"images": chw(pixels(crop(rng, picture, 320)))}


def det(rng, picture, words, font):
    picture = crop(rng, picture, 320)
    for line in range(int(rng.integers(2, 7))):
        text = " ".join(rng.choice(words, int(rng.integers(1, 5))))
        box = (int(rng.integers(0, 160)), 10 + 50 * line + int(rng.integers(0, 20)))
        draw_text(rng, picture, text, font, box, int(rng.integers(12, 34)))
    return {"x": chw(((pixels(picture) - MEAN) / DEVIATION)[..., ::-1])}


def rec(rng, _picture, words, font):
    back = tuple(int(c) for c in rng.integers(150, 256, 3))
    picture = Image.new("RGB", (320, 48), back)
    text = " ".join(rng.choice(words, int(rng.integers(1, 4))))
    box = (4, int(rng.integers(2, 10)))
    ImageDraw.Draw(picture).text(box, text, fill=tuple(int(c) for c in rng.integers(0, 90, 3)), font=font(28))
    return {"x": chw((pixels(picture) * 2 - 1)[..., ::-1])}


def fortunes():
    """Paragraphs of Debian's package fortunes, those that look like sentences."""
    texts = []
    for path in sorted(FORTUNES.glob("*")):
        if path.is_file() and not path.suffix and path.name not in ("art", "ascii-art"):
            for text in path.read_text(errors="replace").split("\n%\n"):
                text = " ".join(text.split())
                if 30 <= len(text) <= 300 and text.isascii():
                    texts.append(text)
    return texts


def sentences(texts, tokenizer, length=64):
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.int64([e.ids for e in encoded]),
        "attention_mask": np.int64([e.attention_mask for e in encoded]),
        "token_type_ids": np.int64([e.type_ids for e in encoded]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, metavar="FOLDER")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json of MiniLM")
    parser.add_argument("--font", metavar="FILE", help="a TrueType font; otherwise the one that pillow carries")
    parser.add_argument("--count", type=int, default=64, help="samples in each file (default 64)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def font(size):
        return ImageFont.truetype(args.font, size) if args.font else ImageFont.load_default(size)

    pictures, texts = photos(args.photos), fortunes()
    words = sorted({word for text in texts for word in text.split() if word.isalnum()}) or ["lapidary", "onnx"]
    np.random.default_rng(7).shuffle(words)
    print(f"{len(pictures)} pictures, {len(texts)} sentences, {len(words)} words")
    for part, half in (("calib", 0), ("eval", 1)):
        for name, make in (("imagenet", imagenet), ("yolo", yolo), ("det", det), ("rec", rec)):
            rng, own = np.random.default_rng([half, len(name)]), pictures[half::2]
            rows = [make(rng, own[i % len(own)], words[half::2], font) for i in range(args.count)]
            np.savez(args.out / f"{name}-{part}.npz", **{key: np.stack([row[key] for row in rows]) for key in rows[0]})
        if args.tokenizer:
            import tokenizers

            own = np.random.default_rng(half).permutation(texts[half::2])[: args.count]
            np.savez(
                args.out / f"minilm-{part}.npz",
                **sentences(own.tolist(), tokenizers.Tokenizer.from_file(args.tokenizer)),
            )


if __name__ == "__main__":
    main()
