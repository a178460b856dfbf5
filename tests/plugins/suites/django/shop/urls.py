from django.http import JsonResponse
from django.urls import path

from .models import Fruit

urlpatterns = [path("fruits", lambda request: JsonResponse({"fruits": list(Fruit.objects.values_list("name", flat=True))}))]
