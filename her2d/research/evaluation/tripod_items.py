"""The parts of the TRIPOD+AI checklist (Collins et al. 2024, BMJ 385, e078378, Table 2).

What each part asks is given in short, in words of this project; the statement's own text decides.
Numbers, sections, topics, the letters D and E and what is asked were compared, part by part, with
the statement's text as three public repositories reproduce it, which agree:
Aperivue/medsci-skills at 61f0a51 (`skills/check-reporting/references/checklists/TRIPOD_AI.md`,
compared there with the statement's supplements ST1 and ST2), yangjun1997/machine-learning-lsr at
03538d8 (`src/mechine_learning_lsr/tripod_checklist.py`, from TRIPODAI_checklist.pdf of
tripod-statement.org), and a copy of the article's Table 2 with its footnotes.
"""

from dataclasses import dataclass
from enum import StrEnum


class Applies(StrEnum):
    """To which studies a part applies, in the statement's letters."""

    DEVELOPMENT = "D"
    EVALUATION = "E"
    BOTH = "D;E"


@dataclass(frozen=True, slots=True)
class ChecklistPart:
    """One part of the checklist.

    Attributes:
        item: Its number, with a letter if the item has several parts.
        section, topic: Where it stands in an article.
        applies: To which studies it applies.
        asked: What is to be reported, in short.
    """

    item: str
    section: str
    topic: str
    applies: Applies
    asked: str


_D, _E, _BOTH = Applies.DEVELOPMENT, Applies.EVALUATION, Applies.BOTH

_TOPICS: tuple[tuple[str, str, tuple[tuple[str, Applies, str], ...]], ...] = (
    (
        "Title",
        "Title",
        (
            (
                "1",
                _BOTH,
                "that a prediction model is developed or its performance evaluated, in whom, and"
                " for which outcome",
            ),
        ),
    ),
    ("Abstract", "Abstract", (("2", _BOTH, "the checklist TRIPOD+AI for Abstracts"),)),
    (
        "Introduction",
        "Background",
        (
            (
                "3a",
                _BOTH,
                "clinical context, diagnostic or prognostic; why the model is developed or"
                " evaluated; existing models",
            ),
            (
                "3b",
                _BOTH,
                "target population; purpose of the model in the care pathway; intended users",
            ),
            ("3c", _BOTH, "known health inequalities between sociodemographic groups"),
        ),
    ),
    (
        "Introduction",
        "Objectives",
        (("4", _BOTH, "objectives, and whether a model is developed, validated or both"),),
    ),
    (
        "Methods",
        "Data",
        (
            (
                "5a",
                _BOTH,
                "sources of the development and of the evaluation data, each by itself; why these"
                " data; how representative they are",
            ),
            ("5b", _BOTH, "dates of accrual, from the first to the last, and end of follow-up"),
        ),
    ),
    (
        "Methods",
        "Participants",
        (
            ("6a", _BOTH, "setting, with the number and location of centres"),
            ("6b", _BOTH, "eligibility criteria"),
            ("6c", _BOTH, "which treatments patients had, and how the analysis deals with them"),
        ),
    ),
    (
        "Methods",
        "Data preparation",
        (
            (
                "7",
                _BOTH,
                "preprocessing and quality checks, and whether they were alike in sociodemographic"
                " groups",
            ),
        ),
    ),
    (
        "Methods",
        "Outcome",
        (
            (
                "8a",
                _BOTH,
                "the outcome and its time horizon; how and when it was assessed; why this outcome;"
                " whether it was assessed alike in sociodemographic groups",
            ),
            (
                "8b",
                _BOTH,
                "if a person's judgement decides the outcome, qualifications and demographics of"
                " those who assessed it",
            ),
            ("8c", _BOTH, "what was done to blind the assessment of the outcome"),
        ),
    ),
    (
        "Methods",
        "Predictors",
        (
            ("9a", _D, "choice of initial predictors, and any selection before model building"),
            (
                "9b",
                _BOTH,
                "definition of all predictors; how and when they were measured; blinding to the"
                " outcome and to other predictors",
            ),
            (
                "9c",
                _BOTH,
                "if a person's judgement decides a predictor, qualifications and demographics of"
                " those who assessed it",
            ),
        ),
    ),
    (
        "Methods",
        "Sample size",
        (
            (
                "10",
                _BOTH,
                "how the size was arrived at, for development and evaluation each; why it is"
                " enough; any calculation of it",
            ),
        ),
    ),
    (
        "Methods",
        "Missing data",
        (("11", _BOTH, "how missing data were handled, and why any data were left out"),),
    ),
    (
        "Methods",
        "Analytical methods",
        (
            ("12a", _D, "use and partition of the data, with regard to the sample size needed"),
            (
                "12b",
                _D,
                "how predictors were handled: functional form, rescaling, transformation,"
                " standardisation",
            ),
            (
                "12c",
                _D,
                "type of model, and why; all steps of model building, with tuning; internal"
                " validation",
            ),
            (
                "12d",
                _BOTH,
                "whether and how heterogeneity across clusters, of parameters and of performance,"
                " was handled and quantified",
            ),
            (
                "12e",
                _BOTH,
                "all measures and plots of performance, and why these; comparison of models",
            ),
            (
                "12f",
                _E,
                "model updating that the evaluation led to, overall or for a group or setting",
            ),
            ("12g", _E, "how predictions were calculated for the evaluation"),
        ),
    ),
    (
        "Methods",
        "Class imbalance",
        (
            (
                "13",
                _BOTH,
                "methods against class imbalance, if used, how and why; recalibration after them",
            ),
        ),
    ),
    ("Methods", "Fairness", (("14", _BOTH, "approaches to fairness, and why these"),)),
    (
        "Methods",
        "Model output",
        (("15", _D, "output of the model; its classes and why; how thresholds were found"),),
    ),
    (
        "Methods",
        "Training versus evaluation",
        (
            (
                "16",
                _BOTH,
                "differences between development and evaluation data in setting, eligibility,"
                " outcome and predictors",
            ),
        ),
    ),
    (
        "Methods",
        "Ethical approval",
        (("17", _BOTH, "the ethics committee; informed consent, or that it was waived"),),
    ),
    (
        "Open science",
        "Funding",
        (("18a", _BOTH, "source of funding, and the funders' role"),),
    ),
    (
        "Open science",
        "Conflicts of interest",
        (("18b", _BOTH, "interests of all authors, financial ones included, that may conflict"),),
    ),
    (
        "Open science",
        "Protocol",
        (("18c", _BOTH, "where the protocol is, or that there is none"),),
    ),
    (
        "Open science",
        "Registration",
        (("18d", _BOTH, "register and number, or that the study is not registered"),),
    ),
    ("Open science", "Data sharing", (("18e", _BOTH, "availability of the study's data"),)),
    (
        "Open science",
        "Code sharing",
        (("18f", _BOTH, "availability of the code of the analysis"),),
    ),
    (
        "Patient and public involvement",
        "Patient and public involvement",
        (
            (
                "19",
                _BOTH,
                "involvement of patients and the public in any phase of the study, or that there"
                " was none",
            ),
        ),
    ),
    (
        "Results",
        "Participants",
        (
            (
                "20a",
                _BOTH,
                "flow of participants; how many with and without the outcome; follow-up time",
            ),
            (
                "20b",
                _BOTH,
                "characteristics, overall and by source or setting: dates, predictors,"
                " demographics, treatments, sample size, outcome events, follow-up and missing"
                " data; differences between demographic groups",
            ),
            (
                "20c",
                _E,
                "demographics, important predictors and outcome beside those of the development"
                " data",
            ),
        ),
    ),
    (
        "Results",
        "Model development",
        (
            (
                "21",
                _BOTH,
                "how many participants and outcome events each analysis had, such as development,"
                " tuning and evaluation",
            ),
        ),
    ),
    (
        "Results",
        "Model specification",
        (
            (
                "22",
                _D,
                "the full model, so that others can predict and evaluate; restrictions of access"
                " or reuse",
            ),
        ),
    ),
    (
        "Results",
        "Model performance",
        (
            ("23a", _BOTH, "performance with confidence intervals, in key subgroups too; plots"),
            ("23b", _BOTH, "heterogeneity of performance across clusters, if examined"),
        ),
    ),
    (
        "Results",
        "Model updating",
        (("24", _E, "results of model updating: the updated model and its performance"),),
    ),
    (
        "Discussion",
        "Interpretation",
        (
            (
                "25",
                _BOTH,
                "what the main results mean, fairness included, in view of the objectives and"
                " earlier studies",
            ),
        ),
    ),
    (
        "Discussion",
        "Limitations",
        (
            (
                "26",
                _BOTH,
                "limitations, and their effects on bias, statistical uncertainty and"
                " generalisability",
            ),
        ),
    ),
    (
        "Discussion",
        "Usability of the model in the context of current care",
        (
            ("27a", _D, "how poor or unavailable input is to be recognised and handled in use"),
            (
                "27b",
                _D,
                "whether users handle the input or the model, and what expertise they need",
            ),
            (
                "27c",
                _BOTH,
                "next steps of research, with regard to applicability and generalisability",
            ),
        ),
    ),
)

CHECKLIST = tuple(
    ChecklistPart(item, section, topic, applies, asked)
    for section, topic, parts in _TOPICS
    for item, applies, asked in parts
)
"""All parts, in the statement's order."""
