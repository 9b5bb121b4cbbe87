from msgspec.structs import replace

from greenroom.inference.generation import Deployment, Generation
from greenroom.status import VersionStatus
from greenroom.supervision.server_status import (
    Showcase,
    blamed,
    changes,
    same,
    with_runtime,
    without_version,
)


def deployment(model: str = "m", version: str = "1", **fields: object) -> Deployment:
    serving = VersionStatus(version=version, stage="Production", digest=f"d{version}")
    return Deployment(
        model=model, name=model, selector="Production", route=f"/{model}", serving=serving, **fields
    )


def test_what_is_only_shown_needs_no_swap() -> None:
    one = deployment()
    other = replace(
        one,
        problems=("a mirror disagrees",),
        latest_versions={"Staging": "2"},
        serving=replace(one.serving, aliases=("champion",), loaded_at="now"),
    )
    assert same([one], [other])
    assert not changes([one], [other])


def test_what_a_reply_holds_needs_a_swap() -> None:
    one = deployment()
    for other in (
        deployment(version="2"),
        replace(one, serving=replace(one.serving, stage="Staging")),
        replace(one, serving=None, reason="nothing is selected"),
    ):
        assert not same([one], [other])
        assert changes([one], [other]) == [other]


def test_the_model_that_is_named_is_to_blame_else_the_new_ones() -> None:
    old, new, kept = deployment("a"), deployment("a", "2"), deployment("b")
    assert blamed({"b": "broken"}, [new, kept], [old, kept]) == [(kept, "broken")]
    assert blamed({"": "it hung"}, [new, kept], [old, kept]) == [(new, "it hung")]
    assert blamed({"": "it hung"}, [old, kept], [old, kept]) == [
        (old, "it hung"),
        (kept, "it hung"),
    ]


def test_a_version_keeps_the_time_since_when_it_is_loaded() -> None:
    showcase = Showcase()
    first, both = [deployment("a")], [deployment("a"), deployment("b")]
    (before,) = showcase.models(Generation(number=1, deployments=tuple(first)), first)
    after, new = showcase.models(Generation(number=2, deployments=tuple(both)), both)
    assert before.serving.loaded_at.endswith("Z")
    assert after.serving.loaded_at == before.serving.loaded_at
    assert new.serving.loaded_at >= after.serving.loaded_at


def test_what_is_served_is_shown_with_what_is_wrong_about_what_is_selected() -> None:
    served = deployment()
    found = deployment(version="2", problems=("version 2 does not load",))
    generation = Generation(number=1, deployments=(served,))
    (model,) = Showcase().models(generation, [found])
    assert model.serving.version == "1"
    assert model.problems == ("version 2 does not load",)


def test_what_does_not_load_on_its_first_use_is_a_problem_of_that_version_alone() -> None:
    one = deployment("a")
    generation = Generation(number=1, deployments=(one,))
    troubles = {("a", one.serving.digest): "it is broken", ("a", "another"): "so is that"}
    (model,) = Showcase().models(generation, [one], troubles=troubles)
    assert model.problems == ("it is broken",)


def test_a_deployment_without_its_version_says_why() -> None:
    bare = without_version(deployment(), "it is broken")
    assert bare.serving is None
    assert bare.reason == "m version 1 does not load: it is broken"
    assert Showcase().models(Generation(number=1, deployments=(bare,)), [bare])[0].problems == (
        "m version 1 does not load: it is broken",
    )


def test_a_model_is_shown_with_the_runtime_that_its_workers_answer_with() -> None:
    made = deployment()
    made = replace(made, serving=replace(made.serving, runtime="compiled"))
    assert with_runtime(made, []) == made
    assert with_runtime(made, ["compiled"]) == made
    for kinds, shown in (({"native"}, "native"), ({"native", "compiled"}, "compiled and native")):
        found = with_runtime(made, kinds)
        assert found.serving.runtime == shown
        assert found.problems == (
            "the graph of version 1 does not answer here, and its estimator serves;"
            " the log of the workers says why",
        )


def test_a_better_runtime_than_the_files_promised_is_no_problem() -> None:
    found = with_runtime(deployment(), {"compiled"})
    assert (found.serving.runtime, found.problems) == ("compiled", ())
