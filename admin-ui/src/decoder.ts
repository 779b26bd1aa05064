// Decodes an event stream by the WHATWG rules for server-sent events, from text cut anywhere.

export interface StreamEvent {
  type: string;
  data: string;
  /** The last event ID as of this event. */
  id: string;
}

export class Decoder {
  private rest = "";
  private type = "";
  private data: string[] = [];
  private id = "";

  /** Adds text and returns the events it completes. An incomplete event at the end is dropped. */
  push(text: string): StreamEvent[] {
    const events: StreamEvent[] = [];
    this.rest += text;
    let from = 0;
    // A CR at the end of the text waits for an LF that may follow.
    for (const end of this.rest.matchAll(/\r\n|\n|\r(?!$)/g)) {
      this.line(this.rest.slice(from, end.index), events);
      from = end.index + end[0].length;
    }
    this.rest = this.rest.slice(from);
    return events;
  }

  private line(line: string, events: StreamEvent[]) {
    if (line === "") return this.dispatch(events);
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") this.data.push(value);
    else if (field === "event") this.type = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
  }

  private dispatch(events: StreamEvent[]) {
    if (this.data.length)
      events.push({ type: this.type || "message", data: this.data.join("\n"), id: this.id });
    this.type = "";
    this.data = [];
  }
}
