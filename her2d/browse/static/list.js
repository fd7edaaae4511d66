// Keys of the list: arrows choose a card, Enter opens it, / searches.
"use strict";
const cards = [...document.querySelectorAll("a.card")];
const columns = () => {
  const first = cards[0]?.getBoundingClientRect().top;
  return Math.max(1, cards.filter((card) => card.getBoundingClientRect().top === first).length);
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.getElementById("search");
  if (document.activeElement === search) {
    if (event.key === "Escape") search.blur();
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    search.select();
    return;
  }
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), j: 1, k: -1 }[event.key];
  if (step === undefined || cards.length === 0) return;
  event.preventDefault();
  const now = cards.indexOf(document.activeElement);
  cards[now < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, now + step))].focus();
});
