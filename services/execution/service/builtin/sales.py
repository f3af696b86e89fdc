"""Leads and how well somebody works with them: plain sums, so that a model need not do them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

import orjson

from services.execution.service.builtin.offers import Offer, declared, record

_MOST: Final = 1000
_POINTS: Final = {"type": "number", "minimum": 0, "maximum": 10}
_NUMBER: Final = {"type": "number"}
_TEXTS: Final = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 1000}, "maxItems": 100}
_WEIGHTS: Final[Mapping[str, tuple[str, float]]] = {
    "budget_score": ("bant", 1.0),
    "authority_score": ("bant", 1.0),
    "need_score": ("bant", 1.0),
    "timeline_score": ("bant", 1.0),
    "engagement_score": ("engagement", 2.0),
    "company_score": ("company", 2.0),
    "source_score": ("source", 1.0),
    "response_speed_score": ("response_speed", 1.0),
}
_CLASSES: Final = (
    (80.0, "hot", "assign_immediately"),
    (60.0, "warm", "nurture_then_assign"),
    (40.0, "cold", "long_nurture"),
    (0.0, "unqualified", "disqualify"),
)
_MEANINGS: Final = {
    "budget_score": "Can they pay?",
    "authority_score": "Does the contact decide?",
    "need_score": "How much do they need it?",
    "timeline_score": "How soon will they buy?",
    "engagement_score": "How actively do they take part?",
    "company_score": "How well does the company fit?",
    "source_score": "How good is the source of the lead?",
    "response_speed_score": "How fast do they answer?",
}


def calculate_lead_score(**points: float) -> str:
    breakdown: dict[str, float] = {}
    for name, (part, weight) in _WEIGHTS.items():
        breakdown[part] = round(breakdown.get(part, 0.0) + points[name] * weight, 1)
    total = round(sum(breakdown.values()), 1)
    _, classification, action = next(one for one in _CLASSES if total >= one[0])
    return _json(
        {
            "total_score": total,
            "classification": classification,
            "recommended_action": action,
            "breakdown": breakdown,
        }
    )


def aggregate_scores(scores_list: Sequence[Mapping[str, float]]) -> str:
    by_name: dict[str, list[float]] = {}
    for scores in scores_list:
        for name, value in scores.items():
            by_name.setdefault(name, []).append(value)
    found = {
        name: {"mean": round(fmean(values), 4), "min": min(values), "max": max(values), "count": len(values)}
        for name, values in sorted(by_name.items())
    }
    return _json({"scores": found, "sample_size": len(scores_list)})


_ACTIONS: Final[Mapping[str, str]] = {
    "grammar": "Go through the guide to business writing, and use a spelling checker.",
    "tone": "Train empathic communication: listen actively, and answer what was felt as well as what was said.",
    "brand_alignment": "Study the brand guidelines, and accompany somebody who follows them well.",
    "response_time": "Keep templates for common questions, and answer what is urgent first.",
}


_OTHERWISE: Final = "Agree on a goal that can be measured, and look at it weekly."


def generate_recommendations(
    weaknesses: Sequence[str], strengths: Sequence[str] = (), comparison_data: Mapping[str, Any] | None = None
) -> str:
    """One for each weakness in its order, then what is to be learnt from the better one, then what is to be kept."""
    found = [_against(weakness) for weakness in weaknesses]
    if comparison_data:
        who, how = comparison_data["winner_name"], ", ".join(comparison_data["winner_strategies"])
        found.append({"area": "comparison", "action": f"Watch how {who} works: {how}.", "reason": f"{who} does better"})
    found += [{"area": one, "action": "Keep it up, and show others how.", "reason": "a strength"} for one in strengths]
    return _json({"recommendations": found})


def _against(weakness: str) -> Mapping[str, str]:
    said = weakness.lower().replace(" ", "_")
    for area, action in _ACTIONS.items():
        if area in said:
            return {"area": area, "action": action, "reason": weakness}
    return {
        "area": weakness,
        "action": "Agree on a goal that can be measured, and look at it weekly.",
        "reason": weakness,
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


OFFERS: Final = (
    Offer(
        declared(
            "calculate_lead_score",
            "Lead score",
            "Scores a sales lead from 0 to 100 out of eight points of 0 to 10 each: BANT counts 40, engagement and "
            "company 20 each, source and response speed 10 each. From 80 on it is hot, 60 warm, 40 cold, else "
            "unqualified.",
            {name: {**_POINTS, "description": f"0 to 10. {said}"} for name, said in _MEANINGS.items()},
            list(_WEIGHTS),
            output=record(
                {
                    "total_score": _NUMBER,
                    "classification": {"enum": [one[1] for one in _CLASSES]},
                    "recommended_action": {"enum": [one[2] for one in _CLASSES]},
                    "breakdown": record({part: _NUMBER for part, _ in _WEIGHTS.values()}),
                }
            ),
            examples=[dict.fromkeys(_WEIGHTS, 8)],
        ),
        calculate_lead_score,
    ),
    Offer(
        declared(
            "aggregate_scores",
            "Aggregate scores",
            "Mean, minimum, maximum and count of each score over a list of scored items, e.g. messages.",
            {
                "scores_list": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": _MOST,
                    "items": {"type": "object", "additionalProperties": _NUMBER, "maxProperties": 100},
                    "description": "The scores of each item by their names; what an item lacks does not count.",
                }
            },
            ["scores_list"],
            output=record(
                {
                    "scores": {
                        "type": "object",
                        "additionalProperties": record(
                            {"mean": _NUMBER, "min": _NUMBER, "max": _NUMBER, "count": {"type": "integer"}}
                        ),
                    },
                    "sample_size": {"type": "integer"},
                }
            ),
            examples=[{"scores_list": [{"grammar": 8, "tone": 6.5}, {"grammar": 9, "tone": 7}]}],
        ),
        aggregate_scores,
    ),
    Offer(
        declared(
            "generate_recommendations",
            "Recommendations",
            "What to do about weaknesses that an analysis found (grammar, tone, brand alignment, response time and "
            "others), what to learn from somebody who does better, and which strengths to keep.",
            {
                "weaknesses": {**_TEXTS, "description": "What is not good, the worst first."},
                "strengths": {**_TEXTS, "description": "What is good."},
                "comparison_data": {
                    **record({"winner_name": {"type": "string"}, "winner_strategies": _TEXTS}, open_ended=True),
                    "description": "Who does better, and how.",
                },
            },
            ["weaknesses"],
            output=record(
                {
                    "recommendations": {
                        "type": "array",
                        "items": record({name: {"type": "string"} for name in ("area", "action", "reason")}),
                    }
                }
            ),
            examples=[{"weaknesses": ["tone with angry customers"], "strengths": ["grammar"]}],
        ),
        generate_recommendations,
    ),
)
