/**
 * Cards, which are Markdown, as elements.
 *
 * Every piece becomes a text node: nothing of a card can become an element that is not made here.
 */
import type { ComponentChildren } from "preact";

const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/;

export function inline(source: string): ComponentChildren[] {
  return source.split(INLINE).map((piece, index) => {
    if (piece.startsWith("`") && piece.endsWith("`") && piece.length > 2) return <code key={index}>{piece.slice(1, -1)}</code>;
    if (piece.startsWith("**") && piece.endsWith("**") && piece.length > 4) return <b key={index}>{piece.slice(2, -2)}</b>;
    const link = /^\[([^\]]+)\]\(([^)\s]+)\)$/.exec(piece);
    // Links of cards lead to other places; here is no network, so their text is enough.
    return link ? <span key={index} title={link[2]}>{link[1]}</span> : piece;
  });
}

const cells = (line: string) => line.replace(/^\s*\||\|\s*$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

function Rows({ lines }: { lines: string[] }) {
  const [head, , ...body] = lines;
  return (
    <div class="scroll">
      <table class="list">
        <thead><tr>{cells(head ?? "").map((cell, index) => <th key={index} scope="col">{inline(cell)}</th>)}</tr></thead>
        <tbody>
          {body.map((line, row) => (
            <tr key={row}>{cells(line).map((cell, index) => <td key={index} class="wide">{inline(cell)}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

type Block = { kind: "heading" | "table" | "list" | "code" | "text"; lines: string[] };

const isTable = (line: string) => line.trimStart().startsWith("|");
const isItem = (line: string) => /^\s*[-*] /.test(line);

/** Lines of one kind that follow one another are a block. */
export function blocksOf(source: string): Block[] {
  const blocks: Block[] = [];
  let fenced = false;
  let fresh = true;
  for (const line of source.split("\n")) {
    if (line.startsWith("```")) {
      fenced = !fenced;
      if (fenced) blocks.push({ kind: "code", lines: [] });
      fresh = true;
      continue;
    }
    const last = blocks[blocks.length - 1];
    if (fenced) {
      last?.lines.push(line);
    } else if (!line.trim()) {
      fresh = true;
    } else {
      const kind = line.startsWith("#") ? "heading" : isTable(line) ? "table" : isItem(line) ? "list" : "text";
      if (kind === "text" && !fresh && last?.kind === "list") last.lines[last.lines.length - 1] += ` ${line.trim()}`;
      else if (!fresh && last?.kind === kind && kind !== "heading") last.lines.push(line);
      else blocks.push({ kind, lines: [line] });
      fresh = false;
    }
  }
  return blocks;
}

function One({ block }: { block: Block }) {
  const first = block.lines[0] ?? "";
  if (block.kind === "heading") return <h3>{inline(first.replace(/^#+\s*/, ""))}</h3>;
  if (block.kind === "table") return <Rows lines={block.lines} />;
  if (block.kind === "code") return <pre>{block.lines.join("\n")}</pre>;
  if (block.kind === "list") {
    return <ul>{block.lines.map((line, index) => <li key={index}>{inline(line.replace(/^\s*[-*] /, ""))}</li>)}</ul>;
  }
  return <p>{inline(block.lines.join(" "))}</p>;
}

export function Markdown({ source }: { source: string }) {
  return <div class="markdown">{blocksOf(source).map((block, index) => <One key={index} block={block} />)}</div>;
}
