"""Other systems' names for our fields, kinds of files and events, for the draft of a sources file."""

from __future__ import annotations

import re
import unicodedata

from shopsight.training.data.describing.foreign_names import FOREIGN_NAMES, STATUS_WORDS


def plain_name(text: str) -> str:
    """A name in lower case, without accents and without anything but letters and digits."""
    letters = unicodedata.normalize("NFKD", text.casefold().replace("ß", "ss").replace("ł", "l"))
    return re.sub(r"[\W_]", "", "".join(c for c in letters if not unicodedata.combining(c)))


# Our field and what others call it, in lower case without anything but letters and digits; best first.
ALIASES: dict[str, tuple[str, ...]] = {
    name: (*words.split(), *map(plain_name, FOREIGN_NAMES.get(name, "").split()))
    for name, words in {
        "source_id": "userpseudoid sourceid customerid idcustomer userid visitorid accountid clientid"
        " memberid householdid contactid cardno cardnumber profileid reviewerid handleid customernumber"
        " customerno customercode buyerid shopperid subscriberid buyerusername username loginid distinctid"
        " reviewconsumeruserid consumeruserid consumerid anonymousid deviceid card customer"
        " user visitor account handle contact buyer recordid uid who by requesterid authorid",
        "item_id": "itemid productid lineitemsku productsku itemsku sku productreference stockcode"
        " idproduct articleid itemnumber productnumber articlenumber variantid article productcode asin"
        " parentasin item product",
        "order_id": "orderid idorder invoiceno invoiceid invoice orderno ordernumber orderreference ordername"
        " ordercode incrementid purchaseorder receiptid receiptno receiptnumber receipt basketid"
        " transactionid order",
        "line_id": "lineid lineno linenumber orderitemid lineitemid line position",
        "session_id": "sessionid gasessionid session visitid usersession",
        "request_id": "requestid request impressionid",
        "message_id": "messageid reviewid postid ticketid commentid tweetid conversationid caseid",
        "answer_id": "answerid faqid",
        "event": "event eventtype eventname action activity interaction type",
        "timestamp": "timestamp eventtimestamp eventtime datetime invoicedate orderdate orderedat"
        " createdat time ts date transactiontimestamp purchasedate purchasedat writtenat sentat postedat"
        " shownat tilltime sent at when unixreviewtime reviewtime reviewdate reviewcreated reviewcreationdate"
        " reviewedat submittedat submissiondate createddate datecreated createdon creationdate orderdatetime"
        " ordertime orderplaced orderplacedat orderplacedon dateplaced placedat placedon dateordered"
        " orderedon ordercreatedat ordercreated saledate solddate soldat soldon transactiondate occurredat"
        " eventdate originaltimestamp receivedat processedat paidat paidon paidondate datepaid dateadd",
        "quantity": "quantity productquantity lineitemquantity itemquantity quantityordered orderedquantity"
        " quantitysold qtyordered itemqty productqty orderqty qty pieces units unitssold amountordered count",
        "price": "unitprice unitpricetaxincl lineitemprice itemprice price itemcost saleprice pricepaid"
        " productprice priceperunit priceeach soldfor unit",
        "amount": "linetotal totalpricetaxincl lineamount itemtotal rowtotal linesubtotal orderlinetotal"
        " orderlinesubtotal itemsubtotal extendedprice extendedamount lineitemtotal totalprice productsales"
        " grosssales salesvalue salesamount netsales amount",
        # When goods or money came back, in a list of returns.
        "return_time": "refunddate refundedat refundcreatedat daterefunded returndate returnedat dateofreturn"
        " refundprocessedat",
        # The whole of an order, where no column names an item.
        "order_total": "total ordertotal grandtotal totalamount totalpaid amountpaid ordervalue ordersum"
        " invoicetotal totalpaidtaxincl totalttc",
        "order_discount": "orderdiscount orderdiscountamount cartdiscount cartdiscountamount coupondiscount"
        " discountcodeamount",
        # Only to tell whether an amount has it inside.
        "order_postage": "shipping shippingcost shippingcosts shippingtotal shippingamount shippingfee"
        " shippingprice shippingandhandling shippinghandling postage postagecost delivery deliverycost"
        " deliveryfee deliverycharge freight carriage totalshipping shippingcostinctax ordershipping",
        "refunded": "refundedamount amountrefunded orderrefundamount refundamount totalrefunded",
        "status": "orderstatus financialstatus paymentstatus status statusname statename orderstatename"
        " currentstate state orderstate",
        "cancelled_at": "cancelledat canceledat cancelled canceled cancellationdate",
        "cost": "cost unitcost costprice",
        "currency": "currency currencycode ordercurrency ordercurrencycode currencyiso currencyisocode"
        " paymentcurrency transactioncurrency isocurrency",
        "discount": "linediscount lineitemdiscount itemdiscount itempromotiondiscount discount discountamount"
        " promotionalrebates rebate",
        "rating": "rating stars score overall starrating reviewrating reviewstars reviewscore ratingvalue",
        "given_name": "givenname firstname first forename billingfirstname",
        "family_name": "familyname lastname surname last billinglastname",
        "full_name": "fullname name customername displayname holder contactname penname reviewername"
        " requestername billingname buyername consumername",
        "email": "email mail emailaddress emailaddr customeremail customeremailaddress billingemail useremail"
        " contactemail buyeremail shopperemail subscriberemail consumeremail requesteremail revieweremail",
        "phone": "phone mobile telephone phonenumber tel cell billingphone",
        "loyalty_number": "loyaltynumber loyaltyno loyaltyid membershipnumber",
        "birth_date": "birthdate dateofbirth dob birthday born",
        "street": "street address address1 streetaddress addressline1 billingaddress1 billingstreet",
        "city": "city town suburb billingcity",
        "postcode": "postcode zip zipcode postalcode plz billingzip billingpostcode",
        "country": "country countrycode countryregion billingcountry",
        "state": "state region province billingprovince billingstate",
        "gov_id": "govid socsecid ssn nationalid taxid",
        "registered_at": "registeredat signupdate registrationdate createdat createdate optintime issuedat"
        " opened joined since",
        "title": "title productname producttitle itemname itemtitle lineitemname articlename"
        " productdescription itemdescription description name item details",
        "category_path": "categorypath itemcategory category categories productcategory department"
        " warengruppe",
        "brand": "brand itembrand manufacturer vendor",
        "attributes": "attributes properties features",
        "image_path": "imagepath image imageurl",
        "available_from": "availablefrom launchedat launchdate",
        "available_to": "availableto withdrawnat discontinued",
        "text": "reviewtext reviewcontent reviewbody reviewmessage reviewcomment text customermessage message"
        " body review content comment utterance sentence feedback feedbacktext verbatim tweet",
        "language": "language lang locale reviewlanguage",
        "intent": "intent category label topic",
        "sentiment": "sentiment mood polarity",
        "split": "split fold",
        "question": "question title",
        "answer": "answer text response",
        "rank": "rank position slot",
        "experiment": "experiment test campaign",
        "arm": "arm variant group",
        "propensity": "propensity probability",
        # Signs of a ticket, whose text is called by a word that elsewhere is an item's.
        "ticket_text": "description ticketdescription firstmessage body comment",
        "subject": "subject ticketsubject",
        "task": "task",
        "label": "label class",
    }.items()
}
# A customer is known by the mail where nothing else names them.
ALIASES["source_id"] += ALIASES["email"]
# A bare id is the key of what the file lists.
KEY_OF = {
    "customers": "source_id",
    "items": "item_id",
    "messages": "message_id",
    "reviews": "message_id",
    "answers": "answer_id",
}
# What a file of each kind must have, and what it must not; the first kind that fits is taken.
SIGNS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("exposures", ("request_id", "item_id", "rank"), ("event",)),
    ("answers", ("question", "answer"), ("source_id",)),
    ("labels", ("message_id", "task", "label"), ()),
    ("reviews", ("message_id", "text", "rating"), ("quantity", "price")),
    ("reviews", ("text", "item_id"), ("order_id",)),
    ("reviews", ("text", "rating"), ("order_id",)),
    ("orders", ("order_id", "item_id", "quantity", "timestamp"), ("event",)),
    ("messages", ("ticket_text", "subject", "timestamp"), ("order_id",)),
    ("events", ("event", "timestamp"), ("text",)),
    ("customers", ("email",), ("item_id", "text")),
    ("customers", ("family_name",), ("item_id", "text")),
    ("customers", ("birth_date",), ("item_id", "text")),
    ("customers", ("phone",), ("item_id", "text")),
    ("messages", ("text",), ("item_id",)),
    ("items", ("item_id", "title"), ("quantity", "order_id")),
    ("items", ("item_id", "category_path"), ("quantity", "order_id")),
)
EVENT_WORDS: dict[str, tuple[str, ...]] = {
    "view": (
        "view",
        "viewitem",
        "viewproduct",
        "productviewed",
        "pageview",
        "screenview",
        "click",
        "detail",
        "impression",
        "pv",
    ),
    "cart": ("cart", "addtocart", "productadded", "addedtocart", "addtobasket", "basket", "atc"),
    "purchase": (
        "purchase",
        "transaction",
        "order",
        "ordercompleted",
        "placedorder",
        "buy",
        "checkout",
        "sale",
    ),
    "return": ("return", "refund", "orderrefunded", "sendback"),
    "rating": ("rating", "rate", "stars"),
    "search": ("search", "query", "viewsearchresults", "productssearched"),
}
KIND_WORDS = re.compile(
    r"events?|orders?|accounts?|customers?|items?|products?|reviews?|messages?|posts?|profiles?|contacts?|users?"
    r"|bestellung(?:en)?|kunden?|artikel|produkte?|commandes?|clients?|produits?|pedidos?|clientes?|productos?"
    r"|produtos?|ordini|ordine|clienti|prodotti|bestellingen|klanten|订单|商品|客户|会员|明细|sales|verkaufe|ventes"
    r"|transactions?|details?|lines?|lists?|history|reports?|catalogu?e|articles?|faq|policies|clicks?|cards?|exposures?|authors?|labels?|data|export"
)

_STATUSES = {plain_name(word): status for status, words in STATUS_WORDS.items() for word in words.split()}
# Words of languages without spaces, long enough to be looked for inside a status such as (删除)等待付款.
_UNSPACED = [word for word in _STATUSES if len(word) >= 3 and not word.isascii()]


def status_of(value: str) -> str | None:
    """Return the meaning of an order status (sources_file.STATUSES), or None for an unknown word."""
    name = plain_name(value)
    if name not in _STATUSES and (inside := [word for word in _UNSPACED if word in name]):
        return _STATUSES[max(inside, key=len)]
    return _STATUSES.get(name) or _STATUSES.get(re.sub(r"^(wc|order|orderstatus|payment|status)", "", name))
