"""The kinds of sources, the fields that each may carry by our names, and what the fields mean."""

from __future__ import annotations

KINDS: dict[str, str] = {
    "events": "what customers did, one row an event",
    "orders": "lines of orders, one row an item of an order",
    "customers": "accounts, profiles and contacts of people",
    "items": "what the shop sells",
    "reviews": "what customers wrote of items",
    "messages": "what customers wrote to the shop",
    "labels": "what people say a message is about, or how it sounds",
    "answers": "questions with the shop's answers",
    "exposures": "what customers were shown, one row an item",
    "consents": "what customers allow and forbid",
}

# What each kind of source may carry, by our names.
FIELDS: dict[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, names in {
        "events": "source_id recipient_id item_id event channel timestamp session_id order_id line_id"
        " quantity price amount currency discount order_discount status order_paid order_postage cancelled_at"
        " refunded returned_at rating request_id",
        "orders": "source_id recipient_id order_id line_id item_id event channel timestamp session_id"
        " quantity price amount currency discount order_discount status order_paid order_postage cancelled_at"
        " refunded returned_at request_id",
        "customers": "source_id also_id given_name family_name full_name email phone loyalty_number"
        " birth_date street city postcode country state gov_id registered_at",
        "items": "item_id title category_path brand price currency cost attributes image_path available_from"
        " available_to goods",
        "reviews": "source_id message_id item_id rating text timestamp channel language intent sentiment"
        " split",
        "messages": "source_id message_id item_id text timestamp channel language intent sentiment split",
        "labels": "message_id task label split",
        "answers": "answer_id question answer language intent",
        "exposures": "request_id source_id item_id rank experiment arm propensity timestamp channel",
        "consents": "source_id purpose allowed timestamp",
    }.items()
}

# Fields that every row needs. Events of a search or a message need no item (cleaning.py).
REQUIRED: dict[str, tuple[str, ...]] = {
    "events": ("event", "timestamp"),
    "orders": ("order_id", "item_id", "quantity", "timestamp"),
    "customers": ("source_id",),
    "items": ("item_id",),
    "reviews": ("text",),
    "messages": ("text",),
    "labels": ("message_id", "task", "label"),
    "answers": ("answer",),
    "exposures": ("request_id", "item_id"),
    "consents": ("source_id", "purpose", "allowed", "timestamp"),
}

# Rows of these kinds are of little use without a customer, so that a missing id must be declared.
PROMISE_IDS = ("events", "orders", "customers", "exposures", "consents")
# Fields of the whole order, which some exports write only on the first line of each order.
ORDER_FIELDS = (
    "order_id", "source_id", "timestamp", "channel", "session_id", "currency", "status", "cancelled_at",
    "returned_at",
)  # fmt: skip

MEANINGS: dict[str, str] = {
    "source_id": "the id of the customer in this source",
    "recipient_id": "in a list of payments, who received the money: the customer of a return",
    "also_id": "a further id of the same customer in this source, such as the device's before the login",
    "item_id": "the id of the item",
    "order_id": "the number of the order",
    "line_id": "the number of the line in its order",
    "session_id": "the id of the visit",
    "request_id": "the id of the request that was answered with items",
    "message_id": "the id of the message or review",
    "answer_id": "the id of the answer",
    "event": "view, cart, purchase, return, rating, review, search or message",
    "channel": "where it happened: web, app, store, ...",
    "timestamp": "when it happened",
    "quantity": "pieces, or a weight such as 0.450; a negative one is a return",
    "price": "the price of one unit",
    "amount": "the total of the line before its discount",
    "currency": "the currency of the amounts of the row",
    "discount": "the discount on the line",
    "order_discount": "the discount on the whole order",
    "order_paid": "the amount paid for the whole order",
    "order_postage": "the postage in order_paid",
    "status": "the status of the order; see [source.values.status]",
    "cancelled_at": "when the order was cancelled; filled means no sale",
    "refunded": "money given back for the whole order",
    "returned_at": "when it came back",
    "rating": "stars, 1 to 5",
    "given_name": "the given name",
    "family_name": "the family name",
    "full_name": "given and family name in one",
    "email": "the mail address",
    "phone": "the phone number",
    "loyalty_number": "the number of the loyalty card",
    "birth_date": "the date of birth",
    "street": "street and house number",
    "city": "the town",
    "postcode": "the postcode",
    "country": "the country",
    "state": "the state or region",
    "gov_id": "a number issued by a government",
    "registered_at": "when the account was made",
    "title": "the name of the item",
    "category_path": "the category, with levels separated by >, / or |",
    "brand": "the brand",
    "cost": "what the shop pays for one unit",
    "attributes": "further properties of the item, as text",
    "image_path": "the file of its picture",
    "available_from": "from when it is sold",
    "available_to": "until when it was sold",
    "goods": "no: it is postage, a fee, a discount or the like; yes: it is a product",
    "text": "the text",
    "language": "the language of the text",
    "intent": "the intent of the text",
    "sentiment": "positive, neutral or negative",
    "split": "train, validation or test, if it is fixed",
    "task": "intent or sentiment",
    "label": "the class that a person assigned",
    "question": "the question",
    "answer": "the answer",
    "rank": "the position in the list that was shown, from 1",
    "experiment": "the name of the experiment",
    "arm": "the arm of the experiment",
    "propensity": "the probability with which it was shown",
    "purpose": "personalisation, profiling, language or marketing",
    "allowed": "whether the customer allows it",
}
