# SPDX-License-Identifier: Apache-2.0
"""The demo's broker ends nobody's session because another client subscribes."""

from refloat_cli.demo.broker import Subscriptions


def test_a_subscription_made_during_a_walk_does_not_end_the_walk() -> None:
    subscriptions = Subscriptions({"a": [], "b": []})
    walked = []

    for topic in subscriptions:
        walked.append(topic)
        subscriptions[f"new/{topic}"] = []
    for topic, subscribers in subscriptions.items():
        walked.append(topic)
        assert subscriptions.pop(topic) is subscribers

    assert walked == ["a", "b", "a", "b", "new/a", "new/b"]
    assert not subscriptions
