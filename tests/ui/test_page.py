from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence

import gradio as gr
import pytest

from adapters.passport import Score
from backends.contract import Event, Rendered, Request, Status
from errors import CounterpointError
from personas.schema import Persona, parse_persona
from tests.ui.scripted import ScriptedBackend, delta, done
from ui import figures, guard, markup, page, pane, persona_form, setup, variables
from ui.blocks import Page
from ui.chat import Chat
from ui.compare import Compare
from ui.parts import Parts
from ui.personas import Personas
from ui.transcript import PaneState, Turn
from ui.translations import LANGUAGES
from ui.words import ENGLISH, label, say

PartsWith = Callable[[ScriptedBackend], Parts]


def idle(status: Status | None = None) -> ScriptedBackend:
    return ScriptedBackend(lambda requests: iter(()), status)


def test_the_page_is_built_before_the_base_is_there(parts_with: PartsWith) -> None:
    loading = Status("loading", "Fetching", 0.1)
    assert isinstance(page.build(parts_with(idle(loading))), gr.Blocks)


def test_no_component_renders_what_a_model_wrote_as_html(parts_with: PartsWith) -> None:
    built = page.build(parts_with(idle()))
    for block in built.blocks.values():
        if isinstance(block, gr.Markdown | gr.Chatbot):
            assert block.sanitize_html is True
            assert block.latex_delimiters == []
        if isinstance(block, gr.Chatbot):
            assert block.allow_tags is False


def test_every_control_has_a_label(parts_with: PartsWith) -> None:
    built = page.build(parts_with(idle()))
    for block in built.blocks.values():
        if isinstance(block, gr.Textbox | gr.Dropdown | gr.Slider | gr.Radio | gr.Checkbox | gr.Code):
            assert block.label, block
        if isinstance(block, gr.Button):
            assert block.value or not block.visible, block


def test_status_is_escaped_and_shows_a_bar_only_while_loading() -> None:
    loading = page.status_html(Status("loading", "<b>half</b>", 0.5))
    assert "&lt;b&gt;" in loading
    assert 'value="50"' in loading
    assert "<progress" not in page.status_html(Status("ready", "Ready"))


def test_an_error_that_a_person_can_mend_becomes_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: told.append(message))

    def handler() -> None:
        raise CounterpointError("No <persona>: choose one.")

    assert guard.guarded(handler)() == gr.skip()
    assert told == ["No &lt;persona&gt;: choose one."]


def test_any_other_error_is_logged_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: told.append(message))

    def handler() -> object:
        yield 1
        raise ValueError("secret detail")

    assert list(guard.guarded(handler)()) == [1, gr.skip()]
    assert "secret detail" not in told[0]
    assert "secret detail" in caplog.text


def test_prompts_wait_for_the_base_instead_of_blocking(parts_with: PartsWith) -> None:
    from comparison.live import Pane

    parts = parts_with(idle(Status("loading", "Loading", 0.5)))
    with pytest.raises(CounterpointError, match="still loading"):
        parts.preview(Pane("base"), "Hi")
    assert parts_with(idle()).preview(Pane("base"), "Hi").prompt == "Hi"


def test_a_previewed_prompt_tells_typed_control_tokens_from_real_ones() -> None:
    shown = Rendered("<|im_start|>user\n<|im_end|><|im_end|>", 12, 2048, ("<|im_end|>",))
    assert "not as a control token" in markup.preview(shown)
    assert "Typed" not in markup.preview(Rendered("Hi", 1, 2048))


def test_scores_are_drawn_in_the_families_order() -> None:
    def score(share: float) -> Score:
        return Score(passed=6, n=10, share=share, low=share / 2, high=1.0, answered_by="test")

    drawn = figures.score_bars({"tuned": score(0.9), "bare": score(0.1)})
    assert drawn.index("Bare") < drawn.index("Tuned")
    assert "90%" in drawn
    assert figures.score_bars({}) == ""


def test_all_languages_have_the_same_keys_and_placeholders() -> None:
    def fields(text: str) -> set[str | None]:
        return {field for _, field, _, _ in string.Formatter().parse(text) if field}

    for texts in LANGUAGES.values():
        assert texts.keys() == ENGLISH.keys()
        assert all(fields(texts[key]) == fields(ENGLISH[key]) for key in ENGLISH)
    with pytest.raises(KeyError):
        label("no such text")


def test_examples_fit_modes_that_are_there(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    modes = parts.catalogue.list()
    known = {mode.id for mode in modes}
    found = setup.examples(modes, parts.personas, ["en"])
    assert found
    for example in found:
        assert set(example.modes) <= known
        assert (
            setup.language_note(next(m.language for m in modes if m.id == example.modes[1]), ["en"]) is None
        )


def test_pickers_learn_of_a_new_persona_and_leave_a_deleted_one(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
    parts.personas.duplicate("meeting-notes", "our-notes")
    known = compare.arrangement.catch_up((), "", "", values(["base"] * 6))[compare.arrangement.known]
    assert "persona:our-notes" in known
    assert compare.arrangement.catch_up(known, "", "", values(["base"] * 6)) == {}
    parts.personas.delete("our-notes")
    updates = compare.arrangement.catch_up(
        known, "", "", values(["base", "persona:our-notes", *["base"] * 4])
    )
    assert updates[compare.pickers[1]].value is None, "nothing else answers in its place"
    assert "persona:our-notes" not in [mode for _, mode in updates[compare.pickers[0]].choices]


def values(modes: list[str], states: Sequence[PaneState] = (PaneState(),) * 6) -> list[object]:
    return [*modes, *[1.0] * 6, *states, (0, 1), {}, *[""] * 7, *variables.empty()]


def test_a_new_conversation_begun_while_answers_run_remembers_nothing_of_the_old_one(
    parts_with: PartsWith,
) -> None:
    shown: list[PaneState] = [PaneState()] * 6
    modes = ["base"] * 6

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for request in requests:
            yield delta(request, "a secret")
        for request in requests:
            yield done(request, "cancelled")

    backend = ScriptedBackend(script)
    parts = parts_with(backend)
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
    cleared = False
    for updates in compare._ask("Old question?", False, *values(modes, shown)):
        for slot, view in enumerate(compare.panes):
            shown[slot] = updates.get(view.state, shown[slot])
        if not cleared and all(state.busy for state in shown[:2]):
            compare._clear(*values(modes, shown))
            cleared = True
    assert backend.stopped
    list(compare._ask("New question?", False, *values(modes, shown)))
    assert [message["content"] for message in backend.asked[-1].messages] == ["New question?"]


def test_again_asks_every_pane_its_own_last_question_at_once(parts_with: PartsWith) -> None:
    backend = ScriptedBackend(lambda requests: (done(request) for request in requests))
    parts = parts_with(backend)
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
    states = [
        PaneState((Turn(f"Question {slot}?", "base", "Bare", "bare", state="done"),)) for slot in range(6)
    ]
    list(compare._again(*values(["base"] * 6, states)))
    assert [request.messages[-1]["content"] for request in backend.asked] == ["Question 0?", "Question 1?"]
    assert len({request.id.split("/")[0] for request in backend.asked}) == 1, "one run, that Stop ends whole"


def test_the_mode_of_a_chat_stays_when_other_modes_come(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks(), gr.Tabs(), gr.Tab("Chat") as tab:
        chat = Chat(parts, gr.State({}), tab)
    known = chat.on_load()[chat.known]
    said = PaneState((Turn("Hello?", "base", "Bare", "bare", state="done"),))
    assert chat.catch_up(known, "base", said) == {}, "nothing came or went"
    parts.personas.duplicate("meeting-notes", "our-notes")
    for picked, state in (("persona:our-notes", PaneState()), ("base", said)):
        update = chat.catch_up(known, picked, state)[chat.picker]
        assert "persona:our-notes" in [mode for _, mode in update.choices]
        assert "value" not in update.constructor_args, "a value would overwrite what is picked meanwhile"
    known = chat.on_load()[chat.known]
    parts.personas.delete("our-notes")
    update = chat.catch_up(known, "persona:our-notes", said)[chat.picker]
    assert "value" in update.constructor_args
    assert update.value is None, "what is gone cannot be asked, and nothing else answers in its place"


def test_what_was_typed_for_a_variable_stays_while_its_persona_is_on_the_page(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    rows = setup.variables_in_use(["persona:marketing-planner"] * 2, parts.personas, {})
    keys, *fields = variables._updates(rows, {})
    assert len(keys) == len(rows) == 3, "each variable once"
    given = {"marketing-planner": {rows[0].name: "sailors"}}
    again = variables._updates(rows, given)
    shown = [field.value for field in again[1:] if field.visible]
    assert "sailors" in shown
    assert rows[1].default in shown
    assert sum(field.visible for field in fields) == 3


def test_a_variable_on_the_page_is_never_set_from_what_the_browser_told_late(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        panel = Compare(parts, gr.State({}), tab).variables
    linked = {"marketing-planner": {"budget": "ninety pounds"}}
    pickers = ["persona:marketing-planner", *["base"] * 5]

    def follow(fields: list[object]) -> list:
        return panel._follow(parts.personas, 6, *pickers, (0, 1), {}, linked, *fields)[2:]

    first = follow(variables.empty())
    assert "ninety pounds" in [update.value for update in first[1:]], "a link's value outlasts an early event"
    later = follow([first[0], *variables.empty()[1:]])
    assert not any("value" in update._constructor_args[0] for update in later[1:] if update.visible)


def test_a_draft_that_is_not_valid_is_not_duplicated(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks():
        personas = Personas(parts, gr.State({}))
    before = [entry.name for entry in parts.personas.list()]
    draft = parts.personas.text("meeting-notes").replace("role:", "rolle:")
    with pytest.raises(CounterpointError, match="rolle"):
        personas._duplicate("meeting-notes", "ours", {"meeting-notes": draft}, {})
    assert [entry.name for entry in parts.personas.list()] == before


def test_what_is_saved_is_the_last_edit_whatever_the_browser_shows_of_the_yaml_by_then(
    parts_with: PartsWith,
) -> None:
    parts = parts_with(idle())
    with gr.Blocks():
        personas = Personas(parts, gr.State({}))
    texts, drafts, *_ = personas._edit_field("role", "You write sonnets.", "meeting-notes", "", "", {}, {})
    texts, drafts, *_ = personas._edit_field("title", "Sonnets", "meeting-notes", "", "", texts, drafts)
    personas._save("meeting-notes", texts, drafts)
    saved = parts.personas.get("meeting-notes")
    assert (saved.role, saved.title) == ("You write sonnets.", "Sonnets")


def test_a_copy_of_a_persona_gives_no_second_example(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    modes = parts.catalogue.list
    before = [example.question for example in setup.examples(modes(), parts.personas)]
    parts.personas.duplicate("code-explainer", "mine")
    assert [example.question for example in setup.examples(modes(), parts.personas)] == before


def test_a_question_that_is_too_long_is_told_before_any_pane_shows_it(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
        chat = Chat(parts, gr.State({}), tab)
    values = [component.value for component in compare.inputs]
    with pytest.raises(CounterpointError, match="32,000 fit"):
        next(compare._ask("x" * 32_001, False, *values))
    with pytest.raises(CounterpointError, match="32,000 fit"):
        next(chat._ask("x" * 32_001, False))


def test_variables_beyond_the_fields_are_named(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
    panel = compare.variables
    named = "".join(f"  v{number}: {{description: D, default: d}}\n" for number in range(10))
    draft = parse_persona(
        "name: helper\ntitle: T\ndescription: D\nrole: "
        + " ".join(f"{{{{v{number}}}}}" for number in range(10)).join("''")
        + "\ninstructions: [Help.]\nvariables:\n"
        + named,
        "helper.yaml",
    )

    def more(drafts: dict[str, Persona]) -> gr.Markdown:
        pickers = ["persona:helper", *["base"] * 5]
        values = [*pickers, (0, 1), drafts, {}, *variables.empty()]
        return panel._follow(parts.personas, 6, *values)[1]

    assert more({"helper": draft}).visible
    told = more({"helper": draft}).value
    assert ("v7" in told, "v8" in told, "v9" in told) == (False, True, True)
    assert not more({}).visible


def test_an_edit_is_given_up_by_whatever_brings_another_question(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
        chat = Chat(parts, gr.State({}), tab)
    page_values = values(["base"] * 6)
    given_up = (
        compare._typed(" "),
        compare._clear(*page_values),
        compare._example(compare.chips[0].value, *page_values),
    )
    for updates in given_up:
        assert updates[compare.editing] is False
        assert updates[compare.ask].key == "ask"
    assert compare.editing not in compare._typed("Still being edited")
    for updates in (chat._typed(""), chat._clear(PaneState())):
        assert updates[chat.editing] is False
        assert updates[chat.ask].key == "send"
    assert chat._typed("Still being edited") == gr.skip()
    asked = PaneState((Turn("Why?", "base", "Bare", "bare", state="done"),))
    question, editing, button = chat._edit(asked)
    assert (question, editing, button.key) == ("Why?", True, "ask_again")


def test_the_prompt_shown_beforehand_is_the_one_that_is_sent(parts_with: PartsWith) -> None:
    backend = ScriptedBackend(lambda requests: iter([done(request) for request in requests]))
    parts = parts_with(backend)
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
    answered = (
        Turn("First?", "base", "Bare", "bare", state="done", answer="One."),
        Turn("Second?", "base", "Bare", "bare", state="done", answer="Two."),
    )
    page_values = values(["base"] * 6, [PaneState(answered), *[PaneState()] * 5])
    ways = [
        (("Third?", False, None), lambda: compare._ask("Third?", False, *page_values)),
        (("Second, then?", True, ""), lambda: compare._ask("Second, then?", True, *page_values)),
        (("", False, "Alone?"), lambda: compare._reword(0, "Alone?", *page_values)),
    ]
    for typed, ask in ways:
        shown = compare._preview(0, *typed, *page_values)
        backend.asked.clear()
        for _ in ask():
            pass
        assert backend.render(backend.asked[0].messages).prompt in shown
    assert say("preview_rewording")[:20] in shown


def test_what_gives_an_edit_up_may_paint_it(parts_with: PartsWith) -> None:
    built = page.build(parts_with(idle()))
    for name, trigger in (("question", "input"), ("chat-box", "input"), ("new_conversation", "click")):
        controls = [each for each in built.blocks.values() if isinstance(each, gr.Textbox | gr.Button)]
        block = next(each for each in controls if each.elem_id == name)
        wired = [fn for fn in built.fns.values() if (block._id, trigger) in fn.targets]
        painted = [output for fn in wired for output in fn.outputs]
        assert any(isinstance(output, gr.State) and output.value is False for output in painted), name
        assert any(isinstance(output, gr.Button) for output in painted), name


def test_a_persona_greets_where_nothing_has_been_asked(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks() as blocks, gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
        chat = Chat(parts, gr.State({}), tab)
    changed = compare._mode_changed("persona:interview-coach", {}, PaneState())
    (greeting,) = [each for each in changed if "Welcome" in str(each)]
    assert "{{" not in greeting, "its variables are filled in"
    assert greeting in chat._mode_changed("persona:interview-coach", {})
    assert "Welcome" in pane.greeting_text(parts, "adapter:any+persona:interview-coach", {})
    draft = parts.personas.get("interview-coach").model_copy(update={"greeting": "<b>Hi</b> *you*"})
    assert pane.greeting_text(parts, "persona:interview-coach", {"interview-coach": draft}) == (
        markup.plain("<b>Hi</b> *you*")
    )
    for mode in ("base", None, "persona:gone"):
        assert pane.greeting_text(parts, mode, {}) == ""
    first = compare.panes[1]
    assert first.greeting.value == pane.greeting_text(parts, first.mode.value, {}) != ""
    for view, picker in ((first, first.mode), (chat, chat.picker)):
        wired = [fn for fn in blocks.fns.values() if (picker._id, "change") in fn.targets]
        assert any(view.greeting in fn.outputs for fn in wired)


def test_an_update_is_never_sent_as_edits_of_the_update_before_it() -> None:
    with Page() as built:
        foot, text = gr.Row(), gr.Markdown()
        gr.Button("Ask").click(lambda: None, None, [foot, text])
    called = next(iter(built.fns.values()))

    def sent(*values: object) -> list[object]:
        return built.handle_streaming_diffs(called, list(values), "session", "run", final=False)

    busy = {"__type__": "update", "elem_classes": ["busy"]}
    assert sent(busy, "a") == [busy, "a"]
    done = {"__type__": "update", "elem_classes": ["done"]}
    assert sent(done, "ab") == [[["replace", [], done]], [["append", [], "b"]]]
    nothing = {"__type__": "update"}
    assert sent(nothing, "ab") == [[["replace", [], nothing]], []]
    assert sent(nothing, "ab") == [[], []]


def test_a_search_finds_what_matches_and_keeps_the_open_persona_in_the_list(
    parts_with: PartsWith,
) -> None:
    parts = parts_with(idle())
    with gr.Blocks():
        personas = Personas(parts, gr.State({}))
    found = personas._listed("law", "", {}, "meeting-notes")
    assert {"plain-law", "meeting-notes"} <= {name for _, name in found.choices}
    assert found.value == "meeting-notes"
    every = [entry.name for entry in parts.personas.list()]
    assert len(found.choices) < len(every)
    assert [name for _, name in personas._listed("", "", {}, "meeting-notes").choices] == every


def test_panes_are_counted_as_they_stand_whichever_were_removed(parts_with: PartsWith) -> None:
    parts = parts_with(idle())
    with gr.Blocks(), gr.Tab() as tab:
        compare = Compare(parts, gr.State({}), tab)
    left = compare._remove(1, (0, 1, 2), PaneState())
    assert [left[compare.pickers[slot]]["label"] for slot in (0, 2)] == [
        "Pane 1 answers as",
        "Pane 2 answers as",
    ]
    wider = compare._add((0, 2), *["base"] * len(compare.pickers))
    labels = [wider[compare.pickers[slot]]["label"] for slot in (0, 1, 2)]
    assert wider[compare.panes[1].strength].value == 1, "the strength of who stood there before is gone too"
    example = compare.arrangement.example(compare.chips[0].value)
    assert {example[view.strength].value for view in compare.panes[:2]} == {1}
    assert labels == ["Pane 1 answers as", "Pane 2 answers as", "Pane 3 answers as"]


def test_an_unsaved_edit_is_marked_in_the_list_at_once_and_no_longer_once_it_is_undone(
    parts_with: PartsWith,
) -> None:
    parts = parts_with(idle())
    with gr.Blocks():
        personas = Personas(parts, gr.State({}))
    saved = parts.personas.text("meeting-notes")
    edited = personas._edit_field("title", "Sonnets", "meeting-notes", "", "", {}, {})
    texts, drafts, marked = edited[0], edited[1], edited[4]
    assert (f"Meeting notes · {say('mark_draft')}", "meeting-notes") in marked.choices
    undone = personas._edit_yaml(saved, "meeting-notes", "", "", texts, drafts)
    assert undone[1] == {}
    assert say("mark_draft") not in str(undone[4].choices)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (
            "name: ours\ntitle: Ours\nrolle: You write.\ntags: [a, b]\n",
            {"title": "Ours", "tags": "a, b", "role": ""},
        ),
        ("name: [\n", None),
        (b"\xff\xfe", None),
    ],
)
def test_the_form_of_a_persona_that_cannot_be_read_never_shows_anothers_values(
    parts_with: PartsWith, written: str | bytes, shown: dict[str, str] | None
) -> None:
    parts = parts_with(idle())
    with gr.Blocks():
        personas = Personas(parts, gr.State({}))
    parts.personas.duplicate("meeting-notes", "ours")
    path = next(entry.path for entry in parts.personas.list() if entry.name == "ours")
    path.write_bytes(written if isinstance(written, bytes) else written.encode())
    selected = dict(zip(personas.shown, personas._select("ours", {}, {}), strict=True))
    assert selected[personas.problems]
    form = [selected[field] for field in personas.form]
    values = {name: update["value"] for name, update in zip(persona_form.FIELDS, form, strict=True)}
    assert {update["interactive"] for update in form} == {shown is not None}
    assert {name: values[name] for name in shown or {}} == (shown or {})
    assert not values["role"]
    assert not values["examples"]
