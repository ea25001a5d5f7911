// htm bound to preact: every module writes its markup with `html`.
import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);
