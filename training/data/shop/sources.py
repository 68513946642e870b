"""The sources file of the synthetic shop: how its raw columns become ours."""

README = """The raw files of a synthetic shop, twelve months up to 2026-06-30: what each channel of it exported, with ids of
its own, its own words and its own mistakes. sources.toml says how to read them. A few rows of every file are bad on
purpose. Nobody in here exists.
"""

SOURCES = """\
format_version = 1

[[source]]
name = "catalogue"
kind = "items"
path = "items.csv"
[source.columns]
item_id = "sku"
title = "title"
category_path = "category"
brand = "brand"
price = "price"
cost = "cost"
attributes = "attributes"
available_from = "launched_at"
available_to = "withdrawn_at"

[[source]]
name = "web"
kind = "customers"
path = "web_accounts.csv"
channel = "web"
[source.columns]
source_id = "account_id"
given_name = "first_name"
family_name = "last_name"
email = "email"
phone = "phone"
birth_date = "birth_date"
street = "street"
city = "city"
postcode = "zip"
country = "country"
loyalty_number = "loyalty_no"
registered_at = "created_at"

[[source]]
name = "app"
kind = "customers"
path = "app_accounts.jsonl"
channel = "app"
[source.columns]
source_id = "user_id"
full_name = "name"
email = "email"
phone = "mobile"
birth_date = "birth_date"
postcode = "postcode"
country = "country"
registered_at = "registered_at"

[[source]]
name = "store"
kind = "customers"
path = "loyalty_cards.csv"
channel = "store"
[source.columns]
source_id = "card_no"
loyalty_number = "card_no"
given_name = "given_name"
family_name = "surname"
email = "email"
phone = "phone"
birth_date = "birth_date"
street = "street"
city = "city"
postcode = "postcode"
country = "country"
registered_at = "issued_at"

[[source]]
name = "reviews"
kind = "customers"
path = "review_authors.csv"
channel = "reviews"
[source.columns]
source_id = "reviewer_id"
full_name = "pen_name"
email = "email"
city = "city"
postcode = "postcode"
country = "country"

[[source]]
name = "social"
kind = "customers"
path = "social_profiles.csv"
channel = "social"
[source.columns]
source_id = "handle"
full_name = "display_name"
email = "email"
phone = "phone"
city = "city"
country = "country"

[[source]]
name = "support"
kind = "customers"
path = "support_contacts.jsonl"
channel = "support"
[source.columns]
source_id = "contact_id"
full_name = "name"
email = "email"
phone = "phone"
loyalty_number = "loyalty_no"
postcode = "postcode"
country = "country"

[[source]]
name = "web"
kind = "events"
path = "web_events.csv"
channel = "web"
timezone = "UTC"
[source.columns]
source_id = "visitor_id"
item_id = "sku"
event = "action"
timestamp = "event_time"
session_id = "session_id"
quantity = "quantity"
price = "unit_price"
currency = "currency"
[source.values.event]
pageview = "view"
add_to_cart = "cart"
search = "search"

[[source]]
name = "web"
kind = "orders"
path = "web_orders.csv"
channel = "web"
timezone = "UTC"
[source.columns]
source_id = "account_id"
order_id = "order_no"
line_id = "line_no"
item_id = "sku"
quantity = "qty"
price = "unit_price"
discount = "discount"
currency = "currency"
timestamp = "ordered_at"

[[source]]
name = "app"
kind = "events"
path = "app_events.jsonl"
channel = "app"
[source.columns]
source_id = "user_id"
item_id = "item"
event = "type"
timestamp = "ts"
session_id = "session"
order_id = "order_id"
line_id = "line"
quantity = "qty"
price = "price"
currency = "currency"
discount = "discount"
rating = "stars"
[source.values.event]
screen_view = "view"
add_to_basket = "cart"
order = "purchase"
refund = "return"
rate = "rating"
search = "search"

[[source]]
name = "store"
kind = "orders"
path = "store_orders.csv"
channel = "store"
timezone = "Europe/Paris"
[source.columns]
source_id = "card_no"
order_id = "receipt"
line_id = "line"
item_id = "sku"
quantity = "qty"
price = "price"
discount = "discount"
timestamp = "till_time"
[source.constants]
currency = "EUR"

[[source]]
name = "reviews"
kind = "reviews"
path = "reviews.jsonl"
channel = "reviews"
[source.columns]
source_id = "reviewer_id"
message_id = "review_id"
item_id = "sku"
rating = "stars"
text = "text"
timestamp = "written_at"
language = "lang"

[[source]]
name = "social"
kind = "messages"
path = "social_posts.csv"
channel = "social"
timezone = "UTC"
[source.columns]
source_id = "handle"
message_id = "post_id"
text = "text"
timestamp = "posted_at"
language = "lang"

[[source]]
name = "support"
kind = "messages"
path = "support_messages.jsonl"
channel = "support"
[source.columns]
source_id = "contact_id"
message_id = "message_id"
text = "text"
timestamp = "sent_at"
language = "lang"
intent = "intent"
sentiment = "sentiment"

[[source]]
name = "web"
kind = "exposures"
path = "exposures.csv"
channel = "web"
[source.columns]
request_id = "request_id"
source_id = "account_id"
item_id = "sku"
rank = "position"
experiment = "experiment"
arm = "variant"
propensity = "propensity"
timestamp = "shown_at"

[[source]]
name = "help"
kind = "answers"
path = "faq.jsonl"
[source.columns]
answer_id = "id"
question = "question"
answer = "answer"
language = "lang"
intent = "intent"

[[source]]
name = "help"
kind = "answers"
path = "policies.jsonl"
[source.columns]
answer_id = "id"
question = "title"
answer = "text"
language = "lang"
intent = "topic"
"""
