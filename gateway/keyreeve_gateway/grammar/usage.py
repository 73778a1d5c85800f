"""Usage texts, made from the grammar."""

from keyreeve_gateway.grammar.model import Argument, Element, Family, OneOf, Option, Program, Settings, Verb
from keyreeve_gateway.grammar.parsing import FILE


def syntax(verb: Verb) -> str:
    """The syntax of what follows a verb's words, in the notation of the legacy manuals."""
    text = " ".join(_element(one) for one in verb.elements)
    if not verb.batch:
        return text
    return f"{{ {text} }} | {FILE} file"


def usage_lines(program: Program, words: tuple[str, ...]) -> list[str]:
    """The usage text of what the words name: the program, a family or a verb."""
    if not words:
        return _program(program)
    family = program.family(words[0])
    if family is None:
        verb = program.verb(words[0])
        assert verb is not None, "the words come from the parser"
        return _verb(f"{program.name} {verb.name}", verb)
    found = family.verb(words[1]) if len(words) > 1 else None
    if found is None:
        return _family(program, family)
    return _verb(f"{program.name} {family.name} {found.name}", found)


def _program(program: Program) -> list[str]:
    named = [(one.name, one.summary) for one in program.families]
    named += [(one.name, one.summary) for one in program.verbs]
    return [
        f"Usage: {program.name} command [ subcommand ] [ options ]",
        "",
        *_columns(named),
        "",
        f"{program.name} help command [ subcommand ] shows more.",
    ]


def _family(program: Program, family: Family) -> list[str]:
    names = " | ".join(one.name for one in family.verbs)
    return [
        f"Usage: {program.name} {family.name} {names}",
        "",
        *_columns([(one.name, one.summary) for one in family.verbs]),
    ]


def _verb(command: str, verb: Verb) -> list[str]:
    lines = [f"Usage: {command} {syntax(verb)}".rstrip(), "", verb.summary]
    rows = [(_option(one), one.help) for one in verb.options.values()]
    rows += [(one.name, one.help) for one in verb.arguments]
    if verb.batch:
        rows.append((f"{FILE} file", "Reads the options of one command per line; - is standard input."))
    return [*lines, "", *_columns(rows)] if rows else lines


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name.ljust(width)}  {text}".rstrip() for name, text in rows]


def _element(element: Element) -> str:
    match element:
        case OneOf():
            text = " | ".join(_option(one) for one in element.options)
            return f"{{ {text} }}" if element.required else f"[ {text} ]"
        case Option():
            return _option(element) if element.required else f"[ {_option(element)} ]"
        case Settings():
            return "[ --setting... ]" if element.list_only else "{ --setting value... }..."
        case Argument():
            text = f"<{element.name}>" + ("..." if element.many else "")
            return text if element.required else f"[{text}]"


def _option(option: Option) -> str:
    if not option.value:
        return option.name
    value = " | ".join(option.choices) or option.value
    value += "..." if option.many else ""
    return f"{option.name} [{value}]" if option.value_optional else f"{option.name} {value}"
