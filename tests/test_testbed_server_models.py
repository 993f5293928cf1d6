"""The test bed's models on a real Triton server: the wire contract, batching, faults."""

from __future__ import annotations

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from carbonpilot.real.probes.triton_counters import parse_metrics, parse_statistics
from carbonpilot.real.probes.triton_http import HttpPage
from carbonpilot.real.testbed.repository.images import CLASSES, mask_of_jpeg, mask_of_pixels

SIZE = (256, 512)


@pytest.fixture(scope="module")
def client(triton_loopback):
    with triton.InferenceServerClient(triton_loopback.grpc) as client:
        for name in ("segformer-b0-jpeg", "segformer-b4-jpeg"):  # the first call of a model is slow
            ask(client, name, jpeg_of(picture(0)))
        yield client


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth picture with some noise, another one for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    smooth = np.stack([x * rng.random(), y * rng.random(), (x + y) * rng.random()], axis=-1)
    return (smooth + rng.normal(0, 8, (*size, 3))).clip(0, 255).astype(np.uint8)


def jpeg_of(rgb: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=85)
    return file.getvalue()


def ask(client, model: str, *images: bytes | np.ndarray) -> np.ndarray:
    """The masks of a request's images."""
    if model.endswith("jpeg"):
        tensor, kind = np.array([[image] for image in images], dtype=object), "BYTES"
    else:
        tensor, kind = np.stack(images), "UINT8"
    given = triton.InferInput("IMAGE", list(tensor.shape), kind).set_data_from_numpy(tensor)
    return client.infer(model, [given]).as_numpy("MASK")


def counters(server, model: str):
    page = HttpPage(server.metrics)
    try:
        return parse_metrics(page.get().decode()).models[model]
    finally:
        page.close()


@pytest.mark.parametrize("model", ["segformer-b0-jpeg", "segformer-b4-uint8"])
def test_a_client_gets_the_answer_to_its_own_image(client, model):
    pictures = [picture(seed) for seed in (1, 2)]
    for rgb in pictures:
        if model.endswith("jpeg"):
            sent = jpeg_of(rgb)
            expected = mask_of_jpeg(sent, *SIZE)
        else:
            sent, expected = rgb, mask_of_pixels(rgb)
        (mask,) = ask(client, model, sent)
        assert mask.dtype == np.uint8
        assert mask.shape == (64, 128)
        assert mask.max() < CLASSES
        np.testing.assert_array_equal(mask, expected)
    assert (mask_of_pixels(pictures[0]) != mask_of_pixels(pictures[1])).mean() > 0.5


def test_a_request_may_hold_several_images(client):
    files = [jpeg_of(picture(seed)) for seed in range(3)]
    masks = ask(client, "segformer-b0-jpeg", *files)
    np.testing.assert_array_equal(masks, [mask_of_jpeg(file, *SIZE) for file in files])


def test_both_forms_answer_nearly_the_same_luminance(client):
    # Not equal: a JPEG loses, and its quarter scale is a mean of 4 x 4 pixels. Away from the wrap at 19 they are close.
    rgb = np.full((*SIZE, 3), 100, np.uint8)
    (raw,), (jpeg,) = ask(client, "segformer-b0-uint8", rgb), ask(client, "segformer-b0-jpeg", jpeg_of(rgb))
    assert np.abs(raw.astype(int) - jpeg).max() <= 1


def test_a_client_can_check_the_model_before_its_first_frame(client):
    for model in ("segformer-b0-jpeg", "segformer-b4-uint8"):
        config = client.get_model_config(model).config
        said = {key: value.string_value for key, value in config.parameters.items()}
        assert (said["frame_height"], said["frame_width"], said["classes"]) == ("256", "512", "19")
        assert "stand-in" in said["accuracy_note"]
        assert config.max_batch_size == 8
        assert config.HasField("dynamic_batching")
        assert config.dynamic_batching.max_queue_delay_microseconds == 0
        # Any queue policy makes the batcher wait in steps of 500 ms.
        assert not config.dynamic_batching.HasField("default_queue_policy")


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (b"hello", r"not a JPEG file \(5 bytes\)"),
        (b"", r"not a JPEG file \(0 bytes\)"),
        (jpeg_of(picture(0, (64, 96))), "expected 256 x 512 pixels .*, got 64 x 96"),
        (jpeg_of(picture(0))[:-2000], "damaged"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(client, image, says):
    with pytest.raises(InferenceServerException, match=says) as caught:
        ask(client, "segformer-b0-jpeg", image)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_one_bad_image_does_not_spoil_the_others_batch(client, triton_loopback):
    good, before = jpeg_of(picture(3)), counters(triton_loopback, "segformer-b4-jpeg")
    start = threading.Barrier(6)

    def one(image: bytes) -> str:
        start.wait()
        try:
            np.testing.assert_array_equal(
                ask(client, "segformer-b4-jpeg", image)[0], mask_of_jpeg(good, *SIZE)
            )
        except InferenceServerException:
            return "refused"
        return "answered"

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(one, [good, b"bad", good, good, b"bad", good]))
    assert said == ["answered", "refused", "answered", "answered", "refused", "answered"]
    # Triton counts an answer that a Python model refuses as answered, so a load counts it as well.
    now = counters(triton_loopback, "segformer-b4-jpeg")
    assert (now.success - before.success, now.failure - before.failure) == (6, 0)


def test_requests_at_once_form_batches(client, triton_loopback):
    """Twelve at once: what came first, then up to eight together, then the rest."""
    files = [jpeg_of(picture(seed)) for seed in range(12)]
    masks = [mask_of_jpeg(file, *SIZE) for file in files]
    before, start = counters(triton_loopback, "segformer-b4-jpeg"), threading.Barrier(12)

    def one(number: int) -> bool:
        start.wait()
        return bool((ask(client, "segformer-b4-jpeg", files[number])[0] == masks[number]).all())

    triton_loopback.repository.fault(slower=20.0)  # 240 ms for an image alone: time enough for all to arrive
    try:
        with ThreadPoolExecutor(12) as pool:
            assert all(pool.map(one, range(12)))
    finally:
        triton_loopback.repository.fault()
    now = counters(triton_loopback, "segformer-b4-jpeg")
    assert now.images - before.images == 12
    assert 2 <= now.batches - before.batches <= 4
    # compute_us counts a batch's time once for each request, so one image alone each would be the least.
    assert (now.compute_us - before.compute_us) / 1000 >= 12 * 20 * 12
    statistics = HttpPage(f"{triton_loopback.http}/v2/models/stats")
    told = parse_statistics(json.loads(statistics.get())).models["segformer-b4-jpeg"]
    statistics.close()
    assert (told.images, told.batches) == (now.images, now.batches)
    assert (told.success, told.failure) == (now.success, now.failure)


def test_all_that_waits_rides_in_the_next_batch(client, triton_loopback):
    """As in the simulator. With a queue delay, this server sends the first of them alone (docs/testbed.md)."""
    triton_loopback.repository.fault(slower=50.0)  # B4 takes 600 ms
    before, file = counters(triton_loopback, "segformer-b4-jpeg"), jpeg_of(picture(1))
    try:
        with ThreadPoolExecutor(5) as pool:
            waiting = []
            for _ in range(5):
                waiting.append(pool.submit(ask, client, "segformer-b4-jpeg", file))
                time.sleep(0.04)
            for answer in waiting:
                answer.result()
    finally:
        triton_loopback.repository.fault()
    now = counters(triton_loopback, "segformer-b4-jpeg")
    assert (now.images - before.images, now.batches - before.batches) == (5, 2)


def test_models_share_the_accelerator(client, triton_loopback):
    """While B4 computes, B0 waits: with the service time of B4 at 12 ms a B0 of 4 ms ends after it or before it."""
    triton_loopback.repository.fault(slower=10.0)  # B4 takes 120 ms, B0 40 ms
    try:
        file = jpeg_of(picture(1))
        start_s, ends_s = time.monotonic(), {}

        def one(model: str) -> None:
            ask(client, model, file)
            ends_s[model] = time.monotonic() - start_s

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, ["segformer-b4-jpeg", "segformer-b0-jpeg"]))
    finally:
        triton_loopback.repository.fault()
    assert max(ends_s.values()) >= 0.160


@pytest.mark.parametrize("fault", ["wrong-shape", "wrong-type", "wrong-class", "model-error"])
def test_faults_begin_and_end_with_the_next_batch(client, triton_loopback, fault):
    rgb = picture(5)
    triton_loopback.repository.fault(fault)
    try:
        if fault == "model-error":
            with pytest.raises(InferenceServerException, match="the model failed"):
                ask(client, "segformer-b0-uint8", rgb)
        else:
            (mask,) = ask(client, "segformer-b0-uint8", rgb)
            wrong = {
                "wrong-shape": mask.shape == (32, 128),
                "wrong-type": mask.dtype == np.float32,
                "wrong-class": mask.min() >= CLASSES,
            }
            assert [name for name, is_so in wrong.items() if is_so] == [fault]
    finally:
        triton_loopback.repository.fault()
    np.testing.assert_array_equal(ask(client, "segformer-b0-uint8", rgb)[0], mask_of_pixels(rgb))


def test_a_model_that_is_always_wrong_promises_the_right_shape(client):
    (output,) = client.get_model_metadata("wrong-shape-uint8").outputs
    assert list(output.shape) == [-1, 64, 128]
    assert ask(client, "wrong-shape-uint8", picture(0)).shape == (1, 32, 128)
