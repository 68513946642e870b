"""Names of our fields in languages other than English, without accents and spaces, best first."""

from __future__ import annotations

# German, French, Spanish, Portuguese, Italian, Dutch, Polish, Swedish and Danish, Turkish, Chinese,
# Japanese, Korean.
FOREIGN_NAMES: dict[str, str] = {
    "order_id": "bestellnummer bestellnr bestellungsnummer auftragsnummer belegnummer rechnungsnummer"
    " numerodecommande ndecommande nodecommande ncommande commande referencecommande numerodepedido"
    " npedido pedido"
    " numerodopedido numeroordine nordine ordine bestelnummer ordernummer numerzamowienia"
    " nrzamowienia zamowienie ordrenummer 订单编号 订单号 主订单编号 注文番号 受注番号"
    " 交易号 受注id 주문번호 주문id siparisno siparisnumarasi"
    " idzamowienia",
    "item_id": "artikelnummer artikelnr artikel produktnummer produktid referenceproduit refproduit"
    " article codigoproducto sku商品 codigodoproduto produto codicearticolo"
    " codiceprodotto articolo artikelcode productnummer kodproduktu indeks produkt varenummer"
    " 商家编码 商品编码 商品id 宝贝id 外部系统编号 商品コード 商品番号"
    " 货号 商品货号 商品管理番号 商品id 品番 상품번호 상품코드 상품id urunkodu"
    " idoferty sygnatura",
    "timestamp": "bestelldatum datumbestellung bestellzeit auftragsdatum rechnungsdatum datum zeitpunkt"
    " datedecommande datecommande dateachat fechadepedido fechapedido fechadecompra fecha datadopedido"
    " datadacompra data datadellordine dataordine besteldatum orderdatum datazamowienia"
    " ordredato 订单创建时间 下单时间 创建时间 付款时间 交易时间 注文日時 注文日 受注日"
    " 下单日期 订单日期 成交时间 支付时间 注文日時 購入日時 受注日時 주문일시 주문일 주문일자 결제일"
    " siparistarihi"
    " datazakupu",
    "quantity": "menge anzahl stuckzahl stuck quantite qte cantidad cant unidades quantidade qtd quantita"
    " qta aantal ilosc antal 购买数量 数量 商品数量 宝贝总数量 個数"
    " 订购数量 件数 销售数量 数量個 注文数 수량 주문수량 adet miktar"
    " liczbasztuk",
    "price": "einzelpreis stuckpreis preis preisprostuck prixunitaire prix preciounitario precio"
    " precounitario preco prezzounitario prezzo stukprijs prijs cenajednostkowa cena"
    " styckpris pris 单价 价格 商品单价 単価 価格"
    " 商品价格 京东价 成交单价 销售单价 単価税込 販売価格 판매가 단가 상품가격 birimfiyat",
    "amount": "positionssumme gesamtpreis zeilensumme zwischensumme montant totalligne montantligne"
    " importe totallinea subtotal valortotal totaledellariga importo regeltotaal wartosc"
    " radsumma 商品金额 小计 小計 金額"
    " 商品小计 结算金额 商品合計 商品小計 상품금액 상품별총주문금액",
    "return_time": "ruckgabedatum retourendatum erstattungsdatum erstattetam dateretour dateremboursement"
    " fechadevolucion fechareembolso datareso datarimborso retourdatum terugbetalingsdatum 退款时间 退货时间",
    "order_total": "gesamtbetrag gesamtsumme bestellsumme rechnungsbetrag gesamt endbetrag montanttotal"
    " totalcommande totalpedido importetotal totaldelpedido totale totaleordine totaal totaalbedrag"
    " totalsumma 订单金额 实付金额 买家实际支付金额 总金额 合計金額"
    " 合計 総合計 請求金額 注文合計 결제금액 주문금액 총주문금액 siparistutari toplam",
    "order_postage": "versand versandkosten porto lieferkosten fraisdeport fraisdelivraison livraison"
    " gastosdeenvio envio frete spedizione costidispedizione verzendkosten kosztwysylki frakt 运费 邮费 送料"
    " 送料合計 배송비 kargoucreti"
    " kosztdostawy",
    "refunded": "erstattungsbetrag erstattet montantrembourse importereembolsado importorimborsato"
    " terugbetaaldbedrag 退款金额",
    "currency": "wahrung devise monnaie moneda divisa moeda valuta waluta 币种 货币 通貨"
    " 币别 货币代码 통화 parabirimi",
    "discount": "rabatt nachlass remise reduction descuento desconto sconto korting rabat"
    " 优惠金额 折扣 割引額 値引",
    "status": "bestellstatus auftragsstatus zahlstatus zahlungsstatus statut statutcommande etat estado"
    " estadodelpedido estadopedido statusdopedido situacao stato statoordine bestelstatus"
    " statuszamowienia 订单状态 交易状态 注文状況 ステータス"
    " 状态 ステータス名 注文ステータス 受注ステータス 주문상태 siparisdurumu",
    "source_id": "kundennummer kundennr kundenid kundenemail kunde numeroclient nclient idclient client"
    " emailclient idcliente cliente correoelectronico numerocliente codicecliente klantnummer"
    " klant numerklienta klient kundnummer"
    " 买家会员名 买家昵称 会员名 买家账号 用户id 客户编号 会員番号 顧客番号"
    " 下单帐号 下单账号 买家id 买家账户 顾客id 客户id 会員id 顧客id ユーザーid 구매자id 회원id 고객번호"
    " musterino"
    " loginkupujacego kupujacy",
    "email": "kundenemail emailadresse mailadresse courriel adressemail adresseemail correo"
    " correoelectronico emaildocliente indirizzoemail emailadres adresemail epost 邮箱 电子邮件"
    " 买家支付宝账号 メールアドレス"
    " 电子邮箱 邮件 注文者メールアドレス eメール 이메일 구매자이메일 eposta",
    "phone": "telefon telefonnummer mobil handy telephone portable telefono movil celular cellulare"
    " telefoon 手机 联系手机 电话 收货人手机 電話番号"
    " 联系电话 联系方式 手机号 手机号码 注文者電話番号 電話 연락처 구매자연락처 telefonnumarasi",
    "given_name": "vorname prenom nombre primeironome nome voornaam imie fornamn 名"
    " 注文者名 ad",
    "family_name": "nachname nom apellido apellidos sobrenome cognome achternaam nazwisko efternamn 姓"
    " 注文者姓 soyad",
    "full_name": "kundenname nomcomplet nomduclient nombrecompleto nomecompleto nomecliente naam 姓名"
    " 收货人姓名 客户姓名 氏名 お名前"
    " 注文者氏名 注文者名前 구매자명 주문자명 adsoyad",
    "street": "strasse adresse direccion endereco indirizzo adres ulica 收货地址 地址 住所"
    " 客户地址 收件地址 주소 adres1",
    "city": "ort stadt ville ciudad cidade citta plaats miasto stad 城市",
    "postcode": "postleitzahl codepostal codigopostal cep cap kodpocztowy postnummer 邮编 郵便番号",
    "country": "land pays pais paese kraj 国家 国",
    "title": "artikelname artikelbezeichnung bezeichnung produktname produit nomproduit libelle"
    " producto nombreproducto nomedoproduto prodotto nomeprodotto productnaam nazwaproduktu"
    " 标题 宝贝标题 商品名称 商品名 商品标题"
    " 宝贝名称 品名 상품명 urunadi"
    " nazwaoferty",
    "category_path": "kategorie warengruppe categorie categoria categoriaprodotto kategoria 类目"
    " 分类 カテゴリ",
    "text": "kommentar bewertungstext nachricht commentaire avis comentario mensaje mensagem"
    " recensione bericht tresc 评论内容 评价内容 レビュー本文"
    " レビュー 本文 评价 留言 리뷰내용",
    "rating": "bewertung sterne note calificacion avaliacao valutazione beoordeling ocena 评分 評価"
    " 评级 星级 평점 puan",
}  # fmt: skip

# What statuses of orders mean, without accents and spaces.
STATUS_WORDS: dict[str, str] = {
    "no sale": "cancelled canceled cancellation void voided pending unpaid failed expired abandoned"
    " draft declined awaitingpayment paymentpending pendingpayment pendingcancellation onhold"
    " checkoutdraft rejected denied paymenterror authorized storniert abgebrochen ausstehend"
    " offen fehlgeschlagen unbezahlt zahlungausstehend wartetaufzahlung annule annulee"
    " enattente enattentedepaiement echoue echouee impaye refuse cancelado cancelada"
    " pendiente pendientedepago fallido anulado pendente aguardandopagamento naopago"
    " annullato annullata inattesa nonpagato fallito geannuleerd inafwachting mislukt"
    " anulowane anulowano oczekujace nieoplacone avbruten annullerad annulleret 交易关闭 已取消 已关闭"
    " 待付款 等待买家付款 未付款 订单关闭 等待付款 已作废 キャンセル 未入金 入金待ち 支払待ち"
    " 取り消し 취소 취소완료 결제대기 입금대기 iptaledildi iptal",
    "returned": "refunded fullyrefunded returned chargeback chargedback reversed refund erstattet"
    " zuruckerstattet ruckerstattet retourniert zuruckgesendet rembourse remboursee retourne"
    " reembolsado reembolsada devuelto devolvido rimborsato reso terugbetaald geretourneerd"
    " zwrocone zwrocono aterbetald refunderet 已退款 退款成功 已退货 返金済み 返品 返品済み 환불"
    " 환불완료 반품완료 iadeedildi",
    "sale": "paid complete completed shipped delivered fulfilled processing closed done success"
    " successful succeeded active inprogress partiallyrefunded partiallyshipped"
    " partiallyfulfilled unfulfilled captured paymentaccepted readytoship invoiced approved"
    " confirmed open received unshipped preparationinprogress abgeschlossen bezahlt versendet"
    " versandt geliefert inbearbeitung verschickt teilweiseerstattet terminee termine payee"
    " paye expediee expedie livree livre encours paiementaccepte completado pagado enviado"
    " entregado enproceso procesando concluido pago entregue completato pagato spedito"
    " consegnato inlavorazione voltooid betaald verzonden afgerond inbehandeling zrealizowane"
    " oplacone wyslane dostarczone slutford betald skickad gennemfort betalt 交易成功 已完成 已付款 已发货"
    " 买家已付款 卖家已发货 等待卖家发货 部分退款 完成 已签收 待发货 待收货 等待出库"
    " 発送済 発送済み 発送完了 発送待ち 配送済み 処理中 出荷済み 完了 入金済み 결제완료 배송완료 배송중"
    " 구매확정 상품준비중 tamamlandi kargoyaverildi teslimedildi",
}  # fmt: skip
