"""The page of a prediction: who answered, with which version, and all that led to it."""

from __future__ import annotations

from trueline.web.api.calls import ApiResponse, view
from trueline.web.api.why import WhyView
from trueline.web.pages.calls import Look
from trueline.web.pages.things import Fact


def show(look: Look) -> ApiResponse:
    why = view(look.services.why(look.path["id"]), WhyView)
    facts = [
        Fact(name.replace("_", " "), value)
        for link in why.links[:1]
        if link.noun == "prediction"
        for name, value in link.facts.items()
    ]
    return look.render(
        "thing.html",
        title="Prediction",
        name=why.id,
        state=None,
        sentence=why.sentence,
        facts=[fact for fact in facts if fact.known],
        tables=[],
        evidence=None,
        chain=why.links,
        events=[],
    )
