import { expect, test } from "vitest";
import { Decoder } from "./decoder";

const stream = [
  ":\n\nretry:3000\n\n",
  "id:a-1\nevent:new-dog\ndata:Corgi\ndata: of two lines\n\n",
  "data\r\n\r\n",
  "id:x\0y\rdata:  kept\r\r",
  "event:no data, no event\n\n",
  "data:by:colon\nid\n\n",
  "data:cut off\n",
].join("");

const events = [
  { type: "new-dog", data: "Corgi\nof two lines", id: "a-1" },
  { type: "message", data: "", id: "a-1" },
  { type: "message", data: " kept", id: "a-1" },
  { type: "message", data: "by:colon", id: "" },
];

test("an event stream cut at any place gives the same events", () => {
  for (let cut = 0; cut <= stream.length; cut += 1) {
    const decoder = new Decoder();
    expect(
      [...decoder.push(stream.slice(0, cut)), ...decoder.push(stream.slice(cut))],
      `cut at ${cut}`,
    ).toEqual(events);
  }
});

test("an event stream in single characters gives the same events", () => {
  const decoder = new Decoder();
  expect([...stream].flatMap((character) => decoder.push(character))).toEqual(events);
});
