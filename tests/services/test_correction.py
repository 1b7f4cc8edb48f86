"""Correction: misheard terms are put right, ordinary words stay, and services are told what to expect."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.correction.__main__ import TERMS, misheard
from benchmarks.correction.sentences import ordinary
from duologue import Cascade, Correction, Fallback, Term, Vocabulary
from duologue.cli.lab.correction import CorrectionLab, Pair, accuracy, corrected
from duologue.errors import BadInput, ConfigurationError
from duologue.frames import SpeechStarted, Transcribed, UserTranscript, Word
from duologue.services.assemblyai import AssemblyAISTT
from duologue.services.correction import Corrector
from duologue.services.correction.correction import with_changes
from duologue.services.correction.corrector import MAX_COMPARED, Change
from duologue.services.correction.sounds import unlikeness
from duologue.services.deepgram import DeepgramFluxSTT, DeepgramSTT, DeepgramSTTOptions
from duologue.services.elevenlabs import ElevenLabsSTT
from duologue.services.openai import OpenAIFileSTT, OpenAISTT
from duologue.services.stt import STT
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.server import Speak
from tests.services.native.calls import PROVIDERS, CountedCall, Provider
from tests.services.story import asked
from tests.services.test_inside_cascade import heard_call

CLINIC = Vocabulary(
    [
        Term(term="Metformin", category="medicine"),
        Term(term="Amoxicillin", category="medicine"),
        Term(term="Patel", category="name"),
        Term(term="ENT", aliases=("e n t",), category="department"),
        Term(term="Łukasiewicz", category="name"),
        Term(term="Москва"),
        Term(term="東京"),
        Term(term="Acme Fiber", aliases=("acme fibre",), context=("router", "internet")),
    ]
)
CORRECTOR = Corrector(CLINIC)


@pytest.fixture(scope="module")
def large() -> Vocabulary:
    return Vocabulary.load(TERMS)


@pytest.mark.parametrize(
    ("heard", "right"),
    [
        ("I take met for men twice a day.", "I take Metformin twice a day."),
        ("I take metformen, and amoksisilin", "I take Metformin, and Amoxicillin"),
        ("My name is Patell's neighbour, no.", "My name is Patel's neighbour, no."),
        ("the aunt department, please", "the ENT department, please"),
        ("I have an appointment at the aunt clinic", "I have an appointment at the ENT clinic"),
        ("the E.N.T. clinic", "the ENT. clinic"),
        ("mister lukasievits called", "mister Łukasiewicz called"),
        ("my acme fibre router is down", "my Acme Fiber router is down"),
    ],
)
def test_a_misheard_term_is_put_right(heard: str, right: str) -> None:
    assert CORRECTOR.correct(heard).text == right


@pytest.mark.parametrize(
    "text",
    [
        "my aunt called",
        "my aunt's appointment is on Monday",
        "we met for lunch, and met four men",
        "I do not take it, and never did",
        "take 2 tablets, no, 20 mg",
        "Я живу в Берлине",
        "我在北京工作",
        "مرحبا بالعالم",
        "नमस्ते दुनिया",
        "",
        "...",
        "Metformin for Patel, please.",
    ],
)
def test_ordinary_words_and_other_scripts_stay(text: str) -> None:
    assert CORRECTOR.correct(text).text == text


def test_terms_of_other_scripts_are_found_as_they_are_written() -> None:
    assert CORRECTOR.correct("Я еду в москва").text == "Я еду в Москва"


def test_the_agents_question_is_context_for_a_short_reply() -> None:
    assert CORRECTOR.correct("it is patel").text == "it is Patel"
    assert CORRECTOR.correct("pat tell", "What is your name please?").text == "Patel"
    assert CORRECTOR.correct("pat tell").text == "pat tell"


@given(st.text(max_size=60), st.integers(0, 10**6))
def test_any_text_keeps_its_digits_and_negations(text: str, number: int) -> None:
    said = f"{text} {number} not {text} never metformen"
    corrected_text = CORRECTOR.correct(said).text
    for kept in (str(number), "not", "never"):
        assert corrected_text.count(kept) >= said.count(kept)
    assert CORRECTOR.correct(said).text == corrected_text


NAMES = (
    *("Noah", "Zwaan", "Neumann", "Seize", "Onze", "Rien", "Niente", "Geen", "Nichts", "Treize", "Firth", "Secund"),
    *("Nessuno", "Dossen", "Nilsson", "Trente", "Sechser", "Fearon", "Netto", "Dva", "Twenti-Tu", "Kantt", "Drey"),
)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "mr fourth, mr second, the name is dozen, mr twenty-two, mr nought, mrs third"),
        ("de", "name neun, name nichts, name zwei, name einundzwanzig, name drei, name sechs"),
        ("fr", "name onze, name seize, name treize, name rien, name trente-deux, je n'ai"),
        ("it", "name niente, name nessuno, name ventidue"),
        ("nl", "name geen, name twee, name drieënveertig"),
        ("pt", "name não, name nao, name onze"),
        ("es", "name once, name nada, name trece"),
        ("ru", "name нет, name два"),
    ],
)
def test_numbers_and_negations_stay_in_each_language(language: str, said: str) -> None:
    corrector = Corrector(Vocabulary([Term(term=name, category="name") for name in NAMES]), language)
    for phrase in said.split(", "):
        assert corrector.correct(phrase, "What is your name?").text == phrase


def test_an_alias_with_a_number_is_obeyed() -> None:
    terms = [Term(term="Metformin", aliases=("met four men",), category="medicine"), Term(term="Dos Santos")]
    corrector = Corrector(Vocabulary(terms), "es")
    assert corrector.correct("I take met four men daily").text == "I take Metformin daily"
    assert corrector.correct("I take met five men daily").text == "I take met five men daily"
    assert corrector.correct("soy dos santos").text == "soy Dos Santos"


@pytest.mark.parametrize(
    ("term", "alias", "heard", "right"),
    [
        ("C++", "see plus plus", "I write C++ and see plus plus.", "I write C++ and C++."),
        ("(x)", "exx", "the (x) and exx", "the (x) and (x)"),
        ("İstanbul", "stamboul", "in i̇stanbul or stamboul", "in İstanbul or İstanbul"),
        ("e\u0301clair", "a clear", "an éclair", "an e\u0301clair"),
        ("नमक", "नामक", "नमकीन और नामक", "नमकीन और नमक"),
        ("पिता", "पीता", "पोता और पीता", "पोता और पिता"),
        ("एंटीहिस्टामिन", "एंटी हिस्टामिन", "मुझे एंटी हिस्टामिन चाहिए", "मुझे एंटीहिस्टामिन चाहिए"),
        ("می‌خواهم", "میخام", "من میخام", "من می‌خواهم"),
        ("เมตฟอร์มิน", "เมท", "กิน เมท", "กิน เมตฟอร์มิน"),
    ],
)
def test_terms_with_signs_and_vowel_signs(term: str, alias: str, heard: str, right: str) -> None:
    corrector = Corrector(Vocabulary([Term(term=term, aliases=(alias,))]))
    assert corrector.correct(heard).text == right
    assert corrector.correct(right).text == right


@pytest.mark.parametrize(
    ("term", "category", "heard", "right"),
    [
        ("CT scan", "department", "where is the see tee scan ward", "where is the CT scan ward"),
        ("CT scan", "department", "where is the seeteeskan ward", "where is the CT scan ward"),
        ("Holloway", "name", "my surname is whole away", "my surname is Holloway"),
        ("Harding", "name", "I would like to speak to mister hard in", "I would like to speak to mister Harding"),
        ("Burns", "name", "it is under the name bernz", "it is under the name Burns"),
        ("Fulvestrant", "medicine", "the right dose of full vast rent", "the right dose of Fulvestrant"),
        ("Erlotinib", "medicine", "he took the early train and left", "he took the early train and left"),
        ("Bosentan", "medicine", "I take the bus and then a train", "I take the bus and then a train"),
    ],
)
def test_sounds_across_words_and_names_of_letters(term: str, category: str, heard: str, right: str) -> None:
    assert Corrector(Vocabulary([Term(term=term, category=category)])).correct(heard).text == right


def test_the_work_for_a_transcript_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All terms sound like the words: a large vocabulary and a long transcript would take seconds."""
    syllables = ["ka", "lo", "mi", "ter", "zu", "vin", "sha", "ri", "fen", "bar"]
    names = ["".join(parts).title() for parts in itertools.product(syllables, repeat=3)]
    corrector = Corrector(Vocabulary([Term(term=name, category="name") for name in names]))
    count = 0

    def compared(one: str, other: str, most: float) -> float:
        nonlocal count
        count += 1
        return unlikeness(one, other)

    monkeypatch.setattr("duologue.services.correction.corrector.unlikeness", compared)
    text = " ".join(name.lower().replace("k", "g") for name in names[:300])
    first = corrector.correct(text)
    assert count <= MAX_COMPARED + 24
    assert corrector.correct(text) == first  # what is known from before changes nothing


def test_changes_point_at_the_original() -> None:
    text = "I take met for men and metformen."
    result = CORRECTOR.correct(text)
    assert [(text[c.start : c.end], c.new) for c in result.changes] == [
        ("met for men", "Metformin"),
        ("metformen", "Metformin"),
    ]


def test_a_correction_in_an_interim_text_stays_in_the_later_ones(large: Vocabulary) -> None:
    corrector = Corrector(large)
    lines = [pair for pair, _ in misheard(large, 12, held_out=False)]
    for pair in lines:
        words = pair.heard.split()
        texts = [corrector.correct(" ".join(words[:end])).text for end in range(1, len(words) + 1)]
        for earlier, later in itertools.pairwise(texts):
            if earlier == " ".join(words[: len(earlier.split())]) or later.startswith(earlier):
                continue
            # A longer window may take over; a term is never taken back for the words that were heard.
            assert not pair.heard.startswith(later)


def test_word_times_stay() -> None:
    words = tuple(Word(f"{text} ", at, at + 0.3) for at, text in enumerate(["I", "take", "met", "for", "men", "daily"]))
    text = "I take met for men daily"
    changed = with_changes(words, text, [Change(7, 18, "met for men", "Metformin")])
    assert [(word.text, word.start_s, word.end_s) for word in changed] == [
        ("I ", 0, 0.3),
        ("take ", 1, 1.3),
        ("Metformin ", 2, 4.3),
        ("daily ", 5, 5.3),
    ]
    assert with_changes(words[:2], text, [Change(7, 18, "met for men", "Metformin")]) == words[:2]
    part = (Word("(metformen)", 1.0, 2.0),)
    assert with_changes(part, "(metformen)", [Change(1, 10, "metformen", "Metformin")]) == (
        Word("(Metformin)", 1.0, 2.0),
    )


# -- in a call ---------------------------------------------------------------------------------------------------------


async def test_the_model_the_log_and_displays_get_the_corrected_words() -> None:
    llm = MockLLM(["All right."])
    stt = MockSTT(["I take met for men twice a day"], interim_s=0.1)
    async with heard_call(Cascade(stt, llm, MockTTS(), heard=[Correction(CLINIC)])) as call:
        told: list[Transcribed] = []
        call.session.on(Transcribed, told.append)
        await call.says(seconds=1.2)
        await call.waits_until(5)
    assert asked(llm.requests[0]) == ["user: I take Metformin twice a day"]
    (item,) = [item for item in call.session.conversation if item.role == "caller"]
    assert (item.text, item.written) == ("I take Metformin twice a day", "I take met for men twice a day")
    assert call.session.conversation.rows()[0]["metadata"]["written"] == "I take met for men twice a day"
    assert [signal.text for signal in told if signal.final] == ["I take Metformin twice a day"]
    assert "I take Metformin" in [signal.text for signal in told if not signal.final]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_log_of_a_native_engine_has_the_corrected_words(provider: Provider) -> None:
    behaviour = {"transcripts": ["my name is Patell"]}
    async with provider.server([[Speak("Thanks.", seconds=0.4)]], **behaviour) as server:
        engine = provider.engine(server)
        async with CountedCall(provider, server, engine, engine, Correction(CLINIC)) as call:
            await call.says()
            await call.hears(1)
            assert call.understood == ["my name is Patel"]
            (item,) = [item for item in call.session.conversation if item.role == "caller"]
            assert item.written == "my name is Patell"


async def test_an_eager_answer_is_to_the_corrected_words() -> None:
    llm = MockLLM(["All right."])
    stt = MockSTT(["my name is Patell"], interim_s=0.05)
    async with heard_call(Cascade(stt, llm, MockTTS(), heard=[Correction(CLINIC)])) as call:
        await call.session.send(SpeechStarted(at=call.session.now()))
        await call.says()
        await call.waits_until(4)
    assert {line for request in llm.requests for line in asked(request)} == {"user: my name is Patel"}


# -- biasing -----------------------------------------------------------------------------------------------------------


def many(number: int = 3000) -> list[str]:
    return [f"term{place}" for place in range(number)]


@pytest.mark.parametrize(
    ("stt", "field", "count"),
    [
        (lambda: DeepgramSTT(api_key="k"), "keyterms", 100),
        (
            lambda: DeepgramSTT(api_key="k", options=DeepgramSTTOptions(keyterms=("Duologue",))),
            "keyterms",
            99,
        ),
        (lambda: DeepgramSTT(api_key="k", options=DeepgramSTTOptions(model="nova-2")), "keywords", 100),
        (lambda: DeepgramFluxSTT(api_key="k"), "keyterms", 100),
        (lambda: ElevenLabsSTT(api_key="k"), "keyterms", 50),
        (lambda: AssemblyAISTT(api_key="k"), "keyterms", 100),
        (lambda: OpenAISTT(api_key="k"), "keywords", 100),
        (lambda: OpenAIFileSTT(api_key="k"), "keywords", 100),
    ],
)
def test_each_service_takes_the_first_terms_within_its_vendors_limit(stt: object, field: str, count: int) -> None:
    service = stt()  # type: ignore[operator]
    before = getattr(service.options, field)
    assert service.expect_terms(many()) == count
    assert getattr(service.options, field) == (*before, *many()[:count])
    assert service.expect_terms(many()) == 0


def test_a_model_without_keywords_gets_a_prompt_and_one_without_either_nothing() -> None:
    service = OpenAISTT("whisper-1", api_key="k")
    assert service.expect_terms(["Metformin", "Patel"]) == 2
    assert service.options.prompt == "Metformin, Patel"
    assert OpenAISTT("gpt-realtime-whisper", api_key="k").expect_terms(["Metformin"]) == 0


def test_a_term_that_is_too_long_for_the_vendor_is_left_out() -> None:
    service = ElevenLabsSTT(api_key="k")
    assert service.expect_terms(["a term of more than twenty characters", "Patel"]) == 1
    assert service.options.keyterms == ("Patel",)


class Listening(MockSTT):
    """Takes all terms."""

    def __init__(self) -> None:
        super().__init__(["hello"])
        self.expected: list[str] = []

    def expect_terms(self, terms: object) -> int:
        self.expected = list(terms)  # type: ignore[call-overload]
        return len(self.expected)


@pytest.mark.parametrize("bias", [True, False])
async def test_the_services_of_the_pipeline_are_told_the_heaviest_terms_first(bias: bool) -> None:
    one, two = Listening(), Listening()
    stt: STT = Fallback([one, two])
    terms: list[str | Term] = [Term(term="Rare", weight=0.5), "Usual", Term(term="Often", weight=3)]
    engine = Cascade(stt, MockLLM(["Hi."]), MockTTS(), heard=[Correction(terms, bias=bias)])
    async with heard_call(engine) as call:
        await call.says()
        await call.waits_until(3)
    assert one.expected == two.expected == (["Often", "Usual", "Rare"] if bias else [])


# -- vocabularies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name\nMetformin\n", "names the columns"),
        ("term\n\n,\n", "line 3"),
        ("term,weight\nMetformin,heavy\n", "line 2"),
        ("term,weight\nMetformin,-1\n", "positive"),
        (f"term\n{'x' * 100}\n", "at most 80"),
        ("term\none two three four five six seven\n", "1 to 6 words"),
        ('term\n"Metformin\n', "line|unexpected end"),
        ("term,alias\nMetformin,met\n", "no column 'alias'"),
        ("term,aliases\nMetformin,met,mit\n", "line 2: the line has more values"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "terms.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=why) as error:
        Vocabulary.load(path)
    assert "terms.csv" in str(error.value)


def test_names_of_columns_may_have_capitals_and_spaces(tmp_path: Path) -> None:
    path = tmp_path / "terms.csv"
    path.write_text("Term, Aliases ,\nMetformin,met for men,\n".replace(" ,\n", "\n", 1), encoding="utf-8-sig")
    assert Vocabulary.load(path).terms == (Term(term="Metformin", aliases=("met for men",)),)


def test_a_file_that_is_missing_or_not_text(tmp_path: Path) -> None:
    (tmp_path / "terms.csv").write_bytes(b"term\n\xff\xfe\n")
    for name in ("none.csv", "terms.csv"):
        with pytest.raises(BadInput, match=name):
            Vocabulary.load(tmp_path / name)


def test_wrong_vocabularies_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="1 to 50000 terms"):
        Vocabulary([])
    with pytest.raises(ConfigurationError, match="is not a term"):
        Vocabulary([7])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="no list of words"):
        Correction(["Metformin"], language="xx")


# -- figures -----------------------------------------------------------------------------------------------------------


def test_a_sample_of_the_benchmark(large: Vocabulary) -> None:
    """The benchmark has the figures; this notices when they fall."""
    assert len(large.terms) >= 2500
    pairs = [pair for pair, _ in misheard(large, 30, held_out=True)]
    texts = [Pair(text, text) for text in ordinary(101, 200)]
    figures = accuracy(corrected(Corrector(large), [*pairs, *texts]))
    assert figures.right >= 26
    assert figures.changed <= 1
    assert figures.errors_after < 0.2 * figures.errors_before
    assert figures.ms_p50 < 5


def test_the_lab_reports_accuracy_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terms, pairs = tmp_path / "terms.csv", tmp_path / "pairs.csv"
    terms.write_text("term,category\nMetformin,medicine\nENT,department\n", encoding="utf-8")
    pairs.write_text(
        "heard,said,before\nI take met for men,I take Metformin,\nmy aunt called,my aunt called,\n"
        "met for mean,Metformin,Which medicine do you take?\n",
        encoding="utf-8",
    )
    assert CorrectionLab(vocabulary=terms, pairs=pairs, language="en", out=tmp_path).run() == 0
    printed = capsys.readouterr().out
    assert "100.0% of 2 that were misheard" in printed
    assert "0.00% of 1 that were heard right" in printed
    rows = (tmp_path / "correction.csv").read_text().splitlines()
    assert rows[0] == "heard,corrected,said,right,ms"
    assert rows[1].startswith("I take met for men,I take Metformin,I take Metformin,True,")


def test_the_transcript_has_the_original_beside_the_corrected_text() -> None:
    frame = UserTranscript(text="my name is Patel", original="my name is Patell")
    assert frame.original == "my name is Patell"
