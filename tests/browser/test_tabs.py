from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from logbook.logbook import Logbook
from tests.backends.scripted_server import serving
from tests.browser import panes
from tests.browser.conftest import App, OpenPage
from tests.browser.panes import link


def test_chat_labels_each_answer_with_the_mode_that_gave_it(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("tab", name="Chat").click()
    panes.pick(page, "The next answer comes from", "Bare")
    box = page.get_by_label("Your message")
    page.locator("#chat").get_by_role("button", name="Sampling").click()
    page.locator("#chat").get_by_label("Most tokens").fill("8")
    box.fill("Why is the sky blue?")
    box.press("Enter")
    page.locator(".block#chat-by").get_by_text("Bare", exact=True).wait_for()
    page.locator("#chat-foot.cp-asked:not(.cp-busy)").wait_for()
    panes.pick(page, "The next answer comes from", "Tuned · trial")
    box.fill("And the sea?")
    box.press("Enter")
    page.locator("#chat-older").get_by_text("Bare").wait_for()
    page.locator(".block#chat-by").get_by_text("Tuned · trial", exact=True).wait_for()
    page.locator("#chat-foot.cp-asked:not(.cp-busy)").wait_for()
    page.locator("#chat").get_by_role("button", name="Receipt").click()
    receipt = page.locator("#chat .cp-receipt").first
    receipt.get_by_text("adapter:trial").wait_for()
    assert "Why is the sky blue?" in receipt.inner_text()


def test_an_answer_rated_good_is_kept_until_it_is_taken_back(open_page: OpenPage, app: App) -> None:
    page = open_page(link("persona:support-desk", "base"))
    panes.set_most_tokens(page, 6)
    assert not page.locator("#pane-1-good").is_visible(), "there is nothing to rate yet"
    panes.ask(page, "Do you ship to the moon?")
    panes.wait_done(page, 1, 2)
    page.locator("#pane-1-good").click()
    page.locator("#pane-1-foot.cp-is-good").wait_for()
    [kept] = Logbook(app.data).ratings.list()
    assert (kept.verdict, kept.persona) == ("good", "support-desk")
    assert kept.conversation[-1].content == "Do you ship to the moon?"
    assert kept.answer.strip()
    assert page.locator("#pane-2-foot.cp-is-good").count() == 0
    page.locator("#pane-1-good").click()
    page.locator("#pane-1-foot.cp-asked:not(.cp-is-good)").wait_for()
    assert Logbook(app.data).ratings.list() == ()
    panes.ask(page, "And to Mars?")
    panes.wait_done(page, 1, 2)
    page.locator("#pane-1-bad").click()
    page.locator("#pane-1-foot.cp-is-bad").wait_for()


def test_a_page_opened_long_after_the_start_has_the_adapters_in_chat(open_page: OpenPage) -> None:
    open_page().close()  # By now the base is loaded: the next page has nothing to catch up with.
    page = open_page()
    page.get_by_role("tab", name="Chat").click()
    picker = page.get_by_label("The next answer comes from", exact=True)
    page.wait_for_function(
        "document.querySelector('#chat-mode input').value === \"Tuned · The Gazette's reporter\""
    )
    picker.click()
    page.get_by_role("option", name="Tuned · trial").wait_for()


def test_editing_a_persona_acts_on_the_very_next_answer(open_page: OpenPage, app: App) -> None:
    page = open_page(link("persona:support-desk", "base"))
    panes.set_most_tokens(page, 6)
    page.get_by_role("tab", name="Personas").click()
    page.get_by_role("radio", name="Coffee support desk").click()
    role = page.get_by_label("Role: who the model is")
    page.wait_for_function("document.querySelector('#persona-role textarea').value.includes('support desk')")
    role.fill("You are Captain Quill, a parrot.")
    role.blur()
    page.get_by_text("already acts on the very next answer").wait_for()
    page.get_by_role("tab", name="Compare").click()
    panes.ask(page, "Who are you?")
    panes.wait_done(page, 1, 2)
    page.locator("#pane-1-receipt").get_by_role("button", name="Receipt").click()
    page.locator("#pane-1-receipt").get_by_text("You are Captain Quill, a parrot.").wait_for()
    assert not (app.data / "personas" / "support-desk.yaml").exists(), "nothing is saved without being asked"


def test_a_saved_copy_is_in_every_picker_and_in_the_data_folder(open_page: OpenPage, app: App) -> None:
    page = open_page(link("base", "base"))
    page.get_by_role("tab", name="Personas").click()
    page.get_by_role("radio", name="Meeting notes").click()
    name = page.get_by_label("Name of the copy")
    page.wait_for_function(
        "document.querySelector('#persona-copy-name input, #persona-copy-name textarea').value === 'meeting-notes-2'"
    )
    name.fill("our-notes")
    page.get_by_role("button", name="Duplicate").click()
    page.get_by_text("persona:our-notes").wait_for()
    title = page.get_by_label("Title")
    title.fill("Our own notes")
    title.blur()
    page.get_by_text("already acts on the very next answer").wait_for()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved our-notes").wait_for()
    assert "Our own notes" in (app.data / "personas" / "our-notes.yaml").read_text()
    page.get_by_role("tab", name="Compare").click()
    panes.pick(page, "Pane 1 answers as", "Prompted · Our own notes")
    page.locator("#pane-1.cp-prompted").wait_for()


def test_a_persona_of_ones_own_is_deleted_once_one_is_sure(open_page: OpenPage, app: App) -> None:
    page = open_page()
    page.get_by_role("tab", name="Personas").click()
    page.get_by_role("radio", name="Meeting notes").click()
    page.get_by_text("persona:meeting-notes").wait_for()
    page.get_by_label("Name of the copy").fill("short-lived")
    page.get_by_role("button", name="Duplicate").click()
    page.get_by_text("persona:short-lived").wait_for()
    asked: list[str] = []

    def answer(sure: bool) -> Any:
        return lambda dialog: (asked.append(dialog.message), dialog.accept() if sure else dialog.dismiss())

    page.once("dialog", answer(sure=False))
    page.get_by_role("button", name="Delete").click()
    page.once("dialog", answer(sure=True))
    assert (app.data / "personas" / "short-lived.yaml").exists()
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("Deleted short-lived").wait_for()
    assert len(asked) == 2
    assert page.get_by_text("not in the list of choices").count() == 0
    assert not (app.data / "personas" / "short-lived.yaml").exists()


def test_a_mistake_in_the_yaml_is_told_with_its_line_and_keeps_what_was_typed(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("tab", name="Personas").click()
    page.get_by_role("radio", name="Order clerk (JSON)").click()
    page.get_by_text("persona:order-clerk").wait_for()
    page.get_by_role("tab", name="YAML").click()
    editor = page.locator("#persona-yaml .cm-content")
    editor.click()
    page.keyboard.press("Control+Home")
    page.keyboard.insert_text("nonsense: 1\n")
    problems = page.locator(".block#persona-problems")
    problems.get_by_text("order-clerk.yaml:1").wait_for()
    page.get_by_role("radio", name="Meeting notes").click()
    page.get_by_text("persona:meeting-notes").wait_for()
    page.get_by_role("radio", name="Order clerk (JSON)").click()
    problems.get_by_text("order-clerk.yaml:1").wait_for()
    page.get_by_role("button", name="Revert").click()
    page.wait_for_function("!document.querySelector('.block#persona-problems').innerText.trim()")


def test_a_persona_in_another_language_is_marked(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("tab", name="Personas").click()
    page.get_by_role("radio", name="Needs a base that speaks French").first.wait_for()


def test_a_bad_adapter_is_shown_with_its_reason_and_harms_nothing(open_page: OpenPage) -> None:
    page = open_page(link("base", "adapter:dora"))
    panes.set_most_tokens(page, 4)
    assert panes.mode_shown(page, 2) == "Tuned · dora (not usable)"
    panes.ask(page, "Hello")
    panes.wait_done(page, 1, 2)
    assert panes.answer(page, 1)
    assert "DoRA" in panes.notice(page, 2)
    page.get_by_role("tab", name="Adapters").click()
    page.get_by_role("radio", name="dora · not usable").click()
    page.locator(".block#adapter-about").get_by_text("use_dora is set").wait_for()


def test_an_imported_adapter_is_in_every_picker_at_once(open_page: OpenPage, app: App) -> None:
    page = open_page(link("base", "base"))
    page.get_by_role("tab", name="Adapters").click()
    page.get_by_role("button", name="Check or import an adapter").click()
    page.get_by_label("Folder on this machine").fill(str(app.visitor))
    page.get_by_role("button", name="Check", exact=True).click()
    page.locator(".block#adapter-found").get_by_text("base not proven").first.wait_for()
    assert not (app.data / "adapters" / "visitor").exists()
    page.get_by_role("button", name="Import", exact=True).click()
    page.get_by_text("Imported visitor").wait_for()
    page.get_by_role("tab", name="Compare").click()
    panes.pick(page, "Pane 2 answers as", "Tuned · visitor")
    page.locator("#pane-2.cp-tuned").wait_for()
    panes.set_most_tokens(page, 4)
    panes.ask(page, "Hello")
    panes.wait_done(page, 1, 2)
    assert panes.answer(page, 2)


def test_an_adapter_is_exported_as_one_file(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.get_by_role("tab", name="Adapters").click()
    page.locator("#adapter-list").get_by_text("trial").first.click()
    page.get_by_role("button", name="Export for other programs").click()
    panes.pick(page, "Export this adapter as", "Ollama Modelfile")
    panes.pick(page, "With the persona", "Socratic tutor")
    page.locator("#adapter-export").click()
    with page.expect_download() as download:
        page.locator("#adapter-download").click()
    file = tmp_path / download.value.suggested_filename
    assert file.name == "trial-ollama.zip"
    download.value.save_as(file)
    with zipfile.ZipFile(file) as archive:
        assert "SYSTEM" in archive.read("trial-ollama/Modelfile").decode()
        assert archive.read("trial-ollama/adapter/adapter_model.safetensors")


def test_an_import_of_nothing_is_one_line(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("tab", name="Adapters").click()
    page.get_by_role("button", name="Check or import an adapter").click()
    page.get_by_label("Folder on this machine").fill("/no/such/folder")
    page.get_by_role("button", name="Import", exact=True).click()
    page.get_by_text("can't be used as an adapter").wait_for()
    assert page.get_by_label("Folder on this machine").input_value() == "/no/such/folder"


def test_a_server_declared_on_the_page_answers_beside_the_local_base(open_page: OpenPage) -> None:
    with serving(lambda call: call.answer("From ", "afar.")) as far:
        page = open_page(link("base", "base"))
        page.get_by_role("tab", name="Servers").click()
        page.get_by_role("heading", name="A new server").wait_for()
        page.get_by_label("Name", exact=True).fill("far")
        address = page.get_by_label("Address")
        address.fill("far away")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Address must be an address").wait_for()
        assert address.input_value() == "far away"
        address.fill(far.url)
        page.get_by_role("button", name="Save").click()
        page.locator(".block#server-about").get_by_text("Its base is org/base").wait_for()
        page.get_by_role("radio", name="far · ready").wait_for()

        page.get_by_role("tab", name="Compare").click()
        panes.pick(page, "Pane 2 answers as", "Bare on far")
        page.locator("#pane-2").get_by_text("answered by far").wait_for()
        panes.set_most_tokens(page, 6)
        panes.ask(page, "Where are you?")
        panes.wait_done(page, 1, 2)
        assert panes.answer(page, 2) == "From afar."
        assert panes.answer(page, 1) not in ("", "From afar.")
        assert [asked["messages"][-1]["content"] for asked in far.asked] == ["Where are you?"]
        page.locator("#pane-2-receipt").get_by_role("button", name="Receipt").click()
        receipt = page.locator("#pane-2-receipt .block.cp-receipt")
        receipt.get_by_text("What it was sent").wait_for()
        told = receipt.inner_text()
        assert far.url in told
        assert "only claimed by the server\tbase" in told
        assert "[user]\nWhere are you?" in told

        page.get_by_role("tab", name="Servers").click()
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Remove", exact=True).click()
        page.get_by_text("Removed far").wait_for()
        page.get_by_role("tab", name="Compare").click()
        page.wait_for_function("document.querySelector('#pane-2-mode input').value === ''")
        page.locator("#pane-2").get_by_text("No mode is picked here").wait_for()


def test_what_is_pasted_into_a_persona_is_saved_with_the_very_next_click(
    open_page: OpenPage, app: App
) -> None:
    page = open_page()
    page.get_by_role("tab", name="Personas").click()
    page.get_by_role("radio", name="Meeting notes").click()
    page.get_by_text("persona:meeting-notes").wait_for()
    page.get_by_label("Name of the copy").fill("pasted-notes")
    page.get_by_role("button", name="Duplicate").click()
    page.get_by_text("persona:pasted-notes").wait_for()
    role = page.get_by_label("Role: who the model is")
    role.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text("You write sonnets.")
    page.locator("#persona-save").click()
    page.get_by_text("Saved pasted-notes").wait_for()
    assert "You write sonnets." in (app.data / "personas" / "pasted-notes.yaml").read_text()
    search = page.get_by_label("Search")
    search.click()
    page.keyboard.insert_text("json")
    page.wait_for_function("document.querySelectorAll('#persona-list input').length < 5")
